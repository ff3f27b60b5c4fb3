"""Do messages arrive? Streams, readers, groups, the server itself and the recorder behind it."""

from __future__ import annotations

from monitoring.dashboards.board import Board
from monitoring.dashboards.panels import ANY_IS_BAD, ANY_IS_ODD, NO_YES, gauges, graph, number, spread
from monitoring.dashboards.queries import MODE, buckets, increase, now, over_time, rate


def board() -> Board:
    return (
        Board("bus", "Bus", "Redis Streams between the processes, and the recorder that stores them.", shows=("mode",))
        .section(
            "",
            number(
                "Server",
                "Whether the recorder's last look at the server succeeded, and whether its append-only file is on and written.",
                now(f"min(tradebot_bus_reachable{{{MODE}}})", "reachable"),
                now(f"min(tradebot_bus_append_only{{{MODE}}})", "persistent"),
                words=NO_YES,
                empty="no recorder",
            ),
            number(
                "Memory used",
                "Share of maxmemory; at the limit the server refuses to write.",
                now(f"max(tradebot:bus_memory:ratio{{{MODE}}})"),
                unit="percentunit",
                levels=((0.7, "orange"), (0.9, "red")),
                decimals=1,
            ),
            number(
                "Slowest group",
                "Age of the oldest message that some group has not finished.",
                now(f"max(tradebot_bus_group_lag_seconds{{{MODE}}})"),
                unit="s",
                levels=((1, "orange"), (10, "red")),
                decimals=2,
            ),
            number(
                "Dead letters",
                "Messages that no consumer could handle and that wait for a person: tradebot bus dead-letters.",
                now(f"sum(tradebot_bus_dead_letters{{{MODE}}})"),
                levels=ANY_IS_ODD,
            ),
            number(
                "Dropped",
                "Market data given up in the chosen time because a buffer was full; a gap message tells each.",
                now(f"sum({increase('tradebot_bus_dropped_messages_total')})"),
                levels=ANY_IS_ODD,
                decimals=0,
            ),
            number(
                "Lost to a group",
                "Lossless messages in the chosen time that were trimmed before their group read them.",
                now(f"sum({increase('tradebot_bus_group_missed_messages_total')})"),
                levels=ANY_IS_BAD,
                decimals=0,
            ),
        )
        .section(
            "Streams",
            graph(
                "Entries",
                "Entries a second added to each stream, by whomever.",
                over_time(f"tradebot:events:rate1m{{{MODE}}} > 0", "{{stream}}"),
                unit="msg/s",
                stacked=True,
            ),
            graph(
                "Handed over",
                "Messages a second handed over by each process; those not acknowledged at once wait in its buffer.",
                over_time(f"sum by (producer) ({rate('tradebot_bus_put_messages_total')})", "{{producer}}"),
                unit="msg/s",
            ),
            graph(
                "Memory of each stream",
                "Market streams are bounded by length, lossless streams are trimmed behind their slowest required group.",
                over_time(f"max by (stream) (tradebot_bus_stream_bytes{{{MODE}}})", "{{stream}}"),
                unit="bytes",
                stacked=True,
            ),
            graph(
                "Waiting in buffers",
                "Messages handed over and not acknowledged by the server yet.",
                over_time(f"sum by (producer) (tradebot_bus_unacknowledged_messages{{{MODE}}})", "{{producer}}"),
            ),
            graph(
                "Length of each stream",
                "Entries in each stream.",
                over_time(f"max by (stream) (tradebot_bus_stream_entries{{{MODE}}})", "{{stream}}"),
            ),
            graph(
                "Not as usual",
                "Messages a second that were dropped, written again, or copies of what was handled before.",
                over_time(f"sum by (producer) ({rate('tradebot_bus_dropped_messages_total')})", "{{producer}} dropped"),
                over_time(f"sum by (producer) ({rate('tradebot_bus_resent_messages_total')})", "{{producer}} written again"),
                over_time(f"sum by (group) ({rate('tradebot_bus_copied_messages_total')})", "{{group}} copies"),
                unit="msg/s",
            ),
        )
        .section(
            "Readers and groups",
            graph(
                "Lag in time",
                "Age of the oldest message that each group has not finished.",
                over_time(f"max by (group, stream) (tradebot_bus_group_lag_seconds{{{MODE}}})", "{{group}} {{stream}}"),
                unit="s",
                levels=((1, "orange"), (10, "red")),
            ),
            graph(
                "Lag in entries",
                "Entries that each group has not finished: undelivered and unacknowledged.",
                over_time(f"max by (group, stream) (tradebot_bus_group_lag_entries{{{MODE}}})", "{{group}} {{stream}}"),
            ),
            graph(
                "From the bus to its readers",
                "From the moment when a message was handed over until the named reader has decoded it: the slowest hundredth.",
                over_time(f'max by (hop) (tradebot:hop_seconds:p99{{{MODE},hop=~"bus_to_.+"}})', "{{hop}}"),
                unit="s",
                logarithmic=True,
                floor=None,
                levels=((0.1, "orange"),),
            ),
            graph(
                "Handled",
                "Messages a second of lossless streams that each group handled, and of market streams that each reader read.",
                over_time(f"sum by (group) ({rate('tradebot_bus_handled_messages_total')})", "group {{group}}"),
                over_time(f"sum by (reader) ({rate('tradebot_bus_read_messages_total')})", "reader {{reader}}"),
                unit="msg/s",
            ),
            graph(
                "Failures",
                "A second: failures of handlers, their wishes to be asked later, unreadable entries, messages parked.",
                over_time(f"sum by (group) ({rate('tradebot_bus_handler_failures_total')})", "{{group}} failed"),
                over_time(f"sum by (group) ({rate('tradebot_bus_handler_retries_total')})", "{{group}} not now"),
                over_time(f"sum by (group) ({rate('tradebot_bus_parked_messages_total')})", "{{group}} parked"),
                over_time(f"sum by (reader) ({rate('tradebot_bus_handler_errors_total')})", "{{reader}} failed"),
                over_time(f"sum by (reader) ({rate('tradebot_bus_unreadable_entries_total')})", "{{reader}} unreadable"),
                unit="msg/s",
            ),
            graph(
                "Lost",
                "Messages a second that a reader or a group will never see.",
                over_time(f"sum by (reader) ({rate('tradebot_bus_missed_messages_total')})", "reader {{reader}}"),
                over_time(f"sum by (group) ({rate('tradebot_bus_group_missed_messages_total')})", "group {{group}}"),
                unit="msg/s",
            ),
        )
        .section(
            "The server",
            graph(
                "Memory",
                "Memory in use and its limit.",
                over_time(f"max(tradebot_bus_memory_bytes{{{MODE}}})", "in use"),
                over_time(f"max(tradebot_bus_memory_limit_bytes{{{MODE}}} > 0)", "limit"),
                unit="bytes",
            ),
            graph(
                "Connections and trimming",
                "A second: connections opened by each process, entries trimmed, looks that failed.",
                over_time(f"sum by (producer) ({rate('tradebot_bus_connects_total')})", "{{producer}} connects"),
                over_time(f"sum({rate('tradebot_bus_trimmed_entries_total')})", "trimmed"),
                over_time(f"sum({rate('tradebot_bus_janitor_errors_total')})", "failed looks"),
                unit="ops",
            ),
        )
        .section(
            "The recorder",
            graph(
                "Rows",
                "Rows a second written into PostgreSQL, by table.",
                over_time(f"sum by (table) ({rate('tradebot_recorder_rows_total')}) > 0", "{{table}}"),
                unit="rowsps",
                stacked=True,
            ),
            graph(
                "Age when stored",
                "Age of the newest message of the last batch when it was committed.",
                over_time(f"max by (intake) (tradebot_recorder_lag_seconds{{{MODE}}})", "{{intake}}"),
                unit="s",
                levels=((5, "orange"), (30, "red")),
            ),
            spread(
                "Time of a batch",
                "How long committed batches took.",
                buckets(f"sum by (le) ({rate('tradebot_recorder_batch_seconds_bucket')})"),
                unit="s",
            ),
            graph(
                "Batches",
                "The slowest hundredth of the committed batches, by intake.",
                over_time(f"tradebot:recorder_batch_seconds:p99{{{MODE}}}", "{{intake}}"),
                unit="s",
                levels=((0.5, "orange"), (2, "red")),
                height=9,
            ),
            gauges(
                "Spool",
                "What waits on disk because the database is away, as a share of its cap.",
                now(
                    f"max by (intake) (tradebot_recorder_spool_bytes{{{MODE}}} / tradebot_recorder_spool_limit_bytes{{{MODE}}})",
                    "{{intake}}",
                ),
                unit="percentunit",
                levels=((0.1, "orange"), (0.8, "red")),
            ),
            graph(
                "Not stored as they came",
                "A second: messages stored before, of no table, parked, left out as configured, spooled; batches that failed.",
                *(
                    over_time(f"sum({rate(f'tradebot_recorder_{what}_total')})", legend)
                    for what, legend in (
                        ("duplicates", "stored before"),
                        ("skipped", "of no table"),
                        ("refused", "parked"),
                        ("thinned", "left out"),
                        ("spooled", "spooled"),
                        ("failures", "failed batches"),
                    )
                ),
                unit="msg/s",
            ),
        )
    )
