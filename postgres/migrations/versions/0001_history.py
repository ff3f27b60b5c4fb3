"""The first tables: market history in day partitions, and everything about our own orders for ever.

Written as SQL, since partitions, comments and partial indexes are what this is about. Nothing names a schema: the
search path decides, one schema per mode.

Rules of all tables:
- Money, prices and sizes are numeric without precision: a numeric(38, 18) rounds silently beyond 18 decimals, which products of
  prices and quantities reach, and the bus bounds the length of its numbers already. What comes out is what went in, zeros included.
- Times are bigint nanoseconds UTC; `utc(ts)` shows one to people.
- Identifiers compare by bytes (COLLATE "C"): equal is equal, and indexes are faster.
- The primary key is what makes a replay harmless, and has the columns in the order of the obvious query.
- A partitioned table has a DEFAULT partition, so that no time whatever is refused.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UTC_FUNCTION = """
CREATE FUNCTION utc(ns bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (timestamp '1970-01-01' + (ns / 1000) * interval '1 microsecond') AT TIME ZONE 'UTC';
COMMENT ON FUNCTION utc(bigint) IS 'A nanosecond time of these tables for people, cut to microseconds.';
"""

ID = 'text COLLATE "C"'
MONEY = "numeric"
MARKET = f"exchange {ID} NOT NULL, symbol {ID} NOT NULL"
ACCOUNT = f"exchange {ID} NOT NULL, account {ID} NOT NULL"
RECEIVED = f"ts_recv_ns bigint NOT NULL, ts_pub_ns bigint NOT NULL, message_id {ID} NOT NULL"
TIMES = f"ts_event_ns bigint, {RECEIVED}"
DECIDED = f"ts_event_ns bigint NOT NULL, ts_pub_ns bigint NOT NULL, message_id {ID} NOT NULL"
CAUSES = f"causation_id {ID} NOT NULL, correlation_id {ID} NOT NULL"

MARKET_TABLES = f"""
CREATE TABLE trades (
    {MARKET}, kind {ID} NOT NULL, trade_id {ID} NOT NULL,
    side {ID} NOT NULL, price {MONEY} NOT NULL, size {MONEY} NOT NULL,
    first_trade_id {ID}, last_trade_id {ID},
    ts_event_ns bigint NOT NULL, {RECEIVED},
    PRIMARY KEY (exchange, symbol, kind, ts_event_ns, trade_id)
) PARTITION BY RANGE (ts_event_ns);
COMMENT ON TABLE trades IS 'Public trades. kind is trade or aggregate, whose ids are different numbers; side is the taker''s;'
    ' price in quote per base, size in base. ts_event_ns is the venue''s time, ours where it sends none.';
COMMENT ON COLUMN trades.first_trade_id IS 'Of an aggregate: the first trade that it joins.';

CREATE TABLE tickers (
    {MARKET}, bid_price {MONEY} NOT NULL, bid_size {MONEY} NOT NULL, ask_price {MONEY} NOT NULL, ask_size {MONEY} NOT NULL,
    crossed boolean NOT NULL, sequence bigint, {TIMES},
    PRIMARY KEY (exchange, symbol, ts_recv_ns, message_id)
) PARTITION BY RANGE (ts_recv_ns);
COMMENT ON TABLE tickers IS 'Best bid and offer. Prices in quote per base, sizes in base; sequence is the venue''s update number.';

CREATE TABLE order_books (
    {MARKET}, sequence bigint NOT NULL, valid boolean NOT NULL, crossed boolean NOT NULL,
    bids jsonb NOT NULL, asks jsonb NOT NULL, {TIMES},
    PRIMARY KEY (exchange, symbol, ts_recv_ns, message_id)
) PARTITION BY RANGE (ts_recv_ns);
COMMENT ON TABLE order_books IS 'Full top-N snapshots, thinned to recorder.book_interval_s.'
    ' bids and asks are [["price", "size"], ...], best first,'
    ' exact text: eight times as fast to store as numeric arrays, and a sixth larger.';

CREATE TABLE day_stats (
    {MARKET}, open {MONEY} NOT NULL, high {MONEY} NOT NULL, low {MONEY} NOT NULL, last {MONEY} NOT NULL,
    volume {MONEY} NOT NULL, quote_volume {MONEY} NOT NULL, change_percent {MONEY} NOT NULL, trade_count bigint, {TIMES},
    PRIMARY KEY (exchange, symbol, ts_recv_ns, message_id)
) PARTITION BY RANGE (ts_recv_ns);
COMMENT ON TABLE day_stats IS 'Rolling 24 hours. volume in base, quote_volume in quote; change_percent is percent.';

CREATE TABLE ohlcv (
    {MARKET}, timeframe {ID} NOT NULL, open_ns bigint NOT NULL, close_ns bigint NOT NULL,
    open {MONEY} NOT NULL, high {MONEY} NOT NULL, low {MONEY} NOT NULL, close {MONEY} NOT NULL,
    volume {MONEY} NOT NULL, quote_volume {MONEY} NOT NULL, trade_count bigint, {TIMES},
    PRIMARY KEY (exchange, symbol, timeframe, open_ns)
);
COMMENT ON TABLE ohlcv IS 'Closed candles, open_ns inclusive to close_ns exclusive; the first version of a candle stays.';

CREATE TABLE funding_rates (
    {MARKET}, rate {MONEY} NOT NULL, next_funding_ns bigint, mark_price {MONEY}, index_price {MONEY}, {TIMES},
    PRIMARY KEY (exchange, symbol, ts_recv_ns, message_id)
);
COMMENT ON TABLE funding_rates IS 'Funding of perpetuals; a rate is a fraction per interval (0.0001 is 0.01 %).';

CREATE TABLE instruments (
    {MARKET}, native_symbol {ID} NOT NULL, base {ID} NOT NULL, quote {ID} NOT NULL, status {ID} NOT NULL,
    price_tick {MONEY} NOT NULL, quantity_step {MONEY} NOT NULL, min_quantity {MONEY} NOT NULL, max_quantity {MONEY},
    market_quantity_step {MONEY}, max_market_quantity {MONEY}, min_notional {MONEY} NOT NULL, max_notional {MONEY},
    min_price {MONEY}, max_price {MONEY}, order_types text[] NOT NULL, {TIMES},
    PRIMARY KEY (exchange, symbol)
);
COMMENT ON TABLE instruments IS 'The newest trading rules of each market. A NULL bound is no bound.';
"""

ACCOUNT_TABLES = f"""
CREATE TABLE orders (
    {ACCOUNT}, client_order_id {ID} NOT NULL, revision bigint NOT NULL, exchange_order_id {ID} NOT NULL, symbol {ID} NOT NULL,
    side {ID} NOT NULL, order_type {ID} NOT NULL, time_in_force {ID} NOT NULL, status {ID} NOT NULL,
    quantity {MONEY} NOT NULL, price {MONEY}, stop_price {MONEY}, filled_quantity {MONEY} NOT NULL, filled_quote {MONEY} NOT NULL,
    command_id {ID} NOT NULL, strategy {ID} NOT NULL, code text NOT NULL, reason text NOT NULL,
    external boolean NOT NULL, reduce_only boolean NOT NULL, operator_review boolean NOT NULL,
    {TIMES}, {CAUSES},
    PRIMARY KEY (exchange, account, client_order_id)
);
COMMENT ON TABLE orders IS 'The latest state of every order: a row is replaced by a higher revision only.';
COMMENT ON COLUMN orders.filled_quote IS 'In quote currency: filled_quote / filled_quantity is the average price.';
CREATE INDEX orders_by_time ON orders (ts_recv_ns DESC);
CREATE INDEX orders_by_exchange_id ON orders (exchange_order_id) WHERE exchange_order_id <> '';
CREATE INDEX orders_open ON orders (exchange, account, symbol)
    WHERE status IN ('INTENT', 'SENT', 'OPEN', 'PARTIALLY_FILLED', 'UNKNOWN');

CREATE TABLE order_events (LIKE orders, PRIMARY KEY (exchange, account, client_order_id, revision));
COMMENT ON TABLE order_events IS 'Every state that an order went through, by revision.';

CREATE TABLE fills (
    {ACCOUNT}, symbol {ID} NOT NULL, trade_id {ID} NOT NULL, client_order_id {ID} NOT NULL, exchange_order_id {ID} NOT NULL,
    side {ID} NOT NULL, price {MONEY} NOT NULL, quantity {MONEY} NOT NULL, quote_quantity {MONEY} NOT NULL,
    fee {MONEY} NOT NULL, fee_asset {ID} NOT NULL, liquidity {ID} NOT NULL, strategy {ID} NOT NULL, external boolean NOT NULL,
    {TIMES}, {CAUSES},
    PRIMARY KEY (exchange, account, symbol, trade_id)
);
COMMENT ON TABLE fills IS 'Executions of our orders. fee is positive when paid, in fee_asset; quote_quantity is price x quantity.';
CREATE INDEX fills_by_time ON fills (ts_recv_ns DESC);
CREATE INDEX fills_by_order ON fills (exchange, account, client_order_id);

CREATE TABLE balances (
    {ACCOUNT}, asset {ID} NOT NULL, free {MONEY} NOT NULL, locked {MONEY} NOT NULL, {TIMES},
    PRIMARY KEY (exchange, account, asset)
);
COMMENT ON TABLE balances IS 'The latest balance of every asset; balance_events has all of them.';
CREATE TABLE balance_events (LIKE balances, PRIMARY KEY (exchange, account, asset, ts_recv_ns, message_id));
COMMENT ON TABLE balance_events IS 'Every balance that a venue reported.';

CREATE TABLE positions (
    {ACCOUNT}, strategy {ID} NOT NULL, symbol {ID} NOT NULL, quantity {MONEY} NOT NULL, cost {MONEY} NOT NULL,
    realised {MONEY} NOT NULL, unrealised {MONEY} NOT NULL, fees {MONEY} NOT NULL, mark_price {MONEY}, {TIMES}, {CAUSES},
    PRIMARY KEY (exchange, account, strategy, symbol)
);
COMMENT ON TABLE positions IS 'The latest position of every strategy and symbol. quantity in base (negative is short),'
    ' money in quote at mark_price; realised and unrealised before fees.';
CREATE TABLE position_events (LIKE positions, PRIMARY KEY (exchange, account, strategy, symbol, ts_recv_ns, message_id));
COMMENT ON TABLE position_events IS 'Every position that was published.';

CREATE TABLE round_trips (
    {ACCOUNT}, strategy {ID} NOT NULL, symbol {ID} NOT NULL, side {ID} NOT NULL, quantity {MONEY} NOT NULL,
    entry_cost {MONEY} NOT NULL, exit_proceeds {MONEY} NOT NULL, fees {MONEY} NOT NULL, profit {MONEY} NOT NULL,
    opened_ns bigint NOT NULL, closed_ns bigint NOT NULL, exit_reason text NOT NULL, trade_ids text[] NOT NULL,
    ts_pub_ns bigint NOT NULL, message_id {ID} NOT NULL, {CAUSES},
    PRIMARY KEY (exchange, account, strategy, symbol, opened_ns, closed_ns)
);
COMMENT ON TABLE round_trips IS 'Positions from entry to flat. Money in quote currency, profit after fees.';
CREATE INDEX round_trips_by_time ON round_trips (closed_ns DESC);
"""

BOT_TABLES = f"""
CREATE TABLE signals (
    {MARKET}, strategy {ID} NOT NULL, direction {ID} NOT NULL, confidence double precision NOT NULL,
    strength double precision NOT NULL, reason text NOT NULL, {DECIDED}, {CAUSES},
    PRIMARY KEY (ts_event_ns, message_id)
) PARTITION BY RANGE (ts_event_ns);
COMMENT ON TABLE signals IS 'Opinions of plugins; confidence and strength lie in 0..1.';

CREATE TABLE decisions (
    {ACCOUNT}, symbol {ID} NOT NULL, strategy {ID} NOT NULL, direction {ID} NOT NULL, verdict {ID} NOT NULL, code {ID} NOT NULL,
    reason text NOT NULL, numbers jsonb NOT NULL, signals text[] NOT NULL, command_id {ID} NOT NULL,
    quantity {MONEY} NOT NULL, price {MONEY}, {DECIDED}, {CAUSES},
    PRIMARY KEY (ts_event_ns, message_id)
) PARTITION BY RANGE (ts_event_ns);
COMMENT ON TABLE decisions IS 'What came of signals: a command, or the gate (code) that stopped it, with its numbers.';
CREATE INDEX decisions_by_command ON decisions (command_id) WHERE command_id <> '';

CREATE TABLE alerts (
    level {ID} NOT NULL, source {ID} NOT NULL, code {ID} NOT NULL, text text NOT NULL, exchange {ID} NOT NULL, symbol {ID} NOT NULL,
    numbers jsonb NOT NULL, {DECIDED}, {CAUSES},
    PRIMARY KEY (ts_event_ns, message_id)
);
COMMENT ON TABLE alerts IS 'What a person should know.';

CREATE TABLE controls (
    action {ID} NOT NULL, actor text NOT NULL, reason text NOT NULL, target {ID}, created_at_ns bigint NOT NULL,
    ts_pub_ns bigint NOT NULL, message_id {ID} NOT NULL,
    PRIMARY KEY (created_at_ns, message_id)
);
COMMENT ON TABLE controls IS 'Who halted, resumed, enabled or disabled what; a NULL target is everything.';

CREATE TABLE connector_status (
    {ACCOUNT}, leg {ID} NOT NULL, state {ID} NOT NULL, reason text NOT NULL, subject text NOT NULL, clock_offset_ns bigint, {TIMES},
    PRIMARY KEY (exchange, account, ts_recv_ns, message_id)
);
COMMENT ON TABLE connector_status IS 'Connections coming and going, leg by leg.';

CREATE TABLE gaps (
    {MARKET}, stream {ID} NOT NULL, reason text NOT NULL, from_ns bigint NOT NULL, to_ns bigint NOT NULL,
    first_missing {ID} NOT NULL, last_missing {ID} NOT NULL, count bigint, healed boolean NOT NULL, {RECEIVED},
    PRIMARY KEY (exchange, stream, symbol, from_ns, to_ns, first_missing, message_id)
);
COMMENT ON TABLE gaps IS 'Data that was missed, where and how much; a NULL count is not known, healed means fetched later.';
"""

PARTITIONED = ("trades", "tickers", "order_books", "day_stats", "signals", "decisions")

TABLES = (
    *PARTITIONED,
    *("ohlcv", "funding_rates", "instruments", "orders", "order_events", "fills", "balances", "balance_events"),
    *("positions", "position_events", "round_trips", "alerts", "controls", "connector_status", "gaps"),
)


def upgrade() -> None:
    for script in (UTC_FUNCTION, MARKET_TABLES, ACCOUNT_TABLES, BOT_TABLES):
        for statement in script.split(";\n"):
            if statement.strip():
                op.execute(statement)
    for table in PARTITIONED:
        op.execute(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT")
        op.execute(f"COMMENT ON TABLE {table}_default IS 'Rows whose day has no partition of its own'")


def downgrade() -> None:
    """Drop the tables and all that is in them."""
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION utc(bigint)")
