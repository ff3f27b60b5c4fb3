"""What the live view draws: one picture of the stack that fits the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from common_models import (
    Alert,
    AlertLevel,
    Decision,
    Direction,
    Fill,
    Message,
    OrderUpdate,
    PluginState,
    PluginStatus,
    Position,
    Signal,
)
from common_models.decimals import plain
from runtime.clock import monotonic_s
from runtime.settings import Settings
from tradebot.managed_process import ManagedProcess, State
from tradebot.open_positions import is_open
from tradebot.own_command import own_command, short_path
from tradebot.pausing import in_words
from tradebot.stack_numbers import Numbers
from tradebot.story import Line
from tradebot.supervisor import Supervisor

STYLES = {
    State.READY: "green",
    State.DONE: "dim",
    State.STOPPED: "dim",
    State.WAITING: "dim",
    State.STARTING: "cyan",
    State.STOPPING: "cyan",
}
KINDS = ("trades", "tickers", "books", "candles", "daystats", "signals", "decisions", "commands", "orders", "fills", "balances")
FAILED = (PluginState.BROKEN, PluginState.QUARANTINED)
POSITIONS_SHOWN = 3
ALERTS_SHOWN = 3
STORY_SHOWN = 6


def hints(settings: Settings) -> tuple[str, ...]:
    """Where to look next, as one would type it here."""
    tradebot = own_command(settings)
    return (
        f'history   psql "$({tradebot} db url)"',
        f'bus       redis-cli -u "$({tradebot} bus url)"  logs in {short_path(settings.home / "logs")}',
        f"more      {tradebot} plugin|orders|positions|doctor|pause|halt|--help",
    )


class Screen:
    """Draws one picture that fits the terminal: what matters first, recent happenings in the lines that are left."""

    def __init__(self, settings: Settings, supervisor: Supervisor, numbers: Numbers) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._numbers = numbers
        self._started_s = monotonic_s()

    def render(self, width: int, height: int) -> Group:
        """Everything, in at most `height` lines: when they are few, happenings are left out first, then hints, then positions."""
        numbers = self._numbers
        top: list[RenderableType] = [self._title(width), self._processes(width)]
        middle = [Text(), rates(numbers, width), *figures(numbers), *attention(numbers, own_command(self._settings))]
        left = max(0, height - 2 - len(self._shown_processes) - len(middle))
        held = positions(numbers)[:left]
        left -= len(held)
        footer = [Text(hint, style="dim") for hint in hints(self._settings)[: max(0, left - 1)]]
        left -= len(footer) + 1 if footer else 0
        happened = happenings(numbers, list(self._supervisor.story.lines), max(0, left - 1))
        padding = [Text() for _ in range(left - len(happened))]
        lines: list[RenderableType] = [*top, *middle, *held, *padding[:1], *happened, *padding[1:]]
        lines += [Text(), *footer] if footer else []
        for line in lines:
            if isinstance(line, Text):
                line.no_wrap = True
                line.overflow = "ellipsis"
        return Group(*lines)

    @property
    def _shown_processes(self) -> list[ManagedProcess]:
        return [process for process in self._supervisor.processes if process.state is not State.DONE]

    def _title(self, width: int) -> Text:
        seconds = int(monotonic_s() - self._started_s)
        supervisor = self._supervisor
        state = "running" if supervisor.all_ready else "not all ready" if supervisor.once_ready else "starting"
        state = "stopping" if supervisor.stop.is_set() else state
        title = Text.assemble(
            ("tradebot ", "bold"),
            (self._settings.mode.value, "bold magenta"),
            f"  {state}  {seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}",
        )
        right = Text("Ctrl-C stops everything", style="dim")
        title.append(" " * max(2, width - title.cell_len - right.cell_len))
        return title.append_text(right)

    def _processes(self, width: int) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), expand=False, header_style="dim", width=width)
        for name in ("process", "state"):
            table.add_column(name, no_wrap=True)
        for name in ("pid", "port", "restarts", "cpu %", "MB"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis", style="dim")
        for process in self._shown_processes:
            usage = self._numbers.usage.get(process.pid or 0)
            port = process.spec.port() if process.pid else None
            table.add_row(
                process.spec.name,
                Text(process.state.value, style=STYLES.get(process.state, "yellow")),
                str(process.pid or ""),
                str(port or ""),
                Text(str(process.restarts), style="yellow" if process.restarts else "dim"),
                f"{usage.cpu_percent:.0f}" if usage else "",
                f"{usage.memory_mb:.0f}" if usage else "",
                process.detail if process.state in (State.RESTARTING, State.WAITING) else "",
            )
        return table


def rates(numbers: Numbers, width: int) -> Text:
    """Events a second, in all and by kind of stream, as many kinds as fit."""
    if not numbers.reachable:
        return _labelled("events/s", "the bus is not reachable yet")
    line = _labelled("events/s", (f"{numbers.events_per_s:,.0f}", "bold"))
    for kind in KINDS:
        rate = numbers.rates.get(kind, 0.0)
        part = f"  {kind} {rate:,.0f}" if rate >= 10 else f"  {kind} {rate:.1f}"
        if line.cell_len + len(part) <= width and numbers.totals.get(kind):
            line.append(part)
    return line


def figures(numbers: Numbers) -> list[Text]:
    """What the bot did, what came of it, and how far the readers are behind."""
    totals = numbers.totals
    did = f"signals {totals['signals']:,}  decisions {numbers.taken:,} taken {numbers.denied:,} denied  "
    parts = f"realised {numbers.realised:+,.2f}, unrealised {numbers.unrealised:+,.2f}, fees {numbers.fees:,.2f}"
    behind = "  ".join(f"{group} {count:,}" for group, count in sorted(numbers.lags.items())) or "nobody reads yet"
    lost = [(f"  dead letters {numbers.dead_letters:,}", "bold red")] if numbers.dead_letters else []
    return [
        _labelled("trading", did + f"order updates {totals['orders']:,}  fills {totals['fills']:,}"),
        _labelled("profit", _money(numbers.profit), f" after fees: {parts}"),
        _labelled("behind", behind, *lost),
    ]


def attention(numbers: Numbers, tradebot: str) -> list[Text]:
    """What a person should know: the stop, pauses, how the plugins are, and alerts that are not over."""
    lines = []
    if numbers.stopped:
        lines.append(_labelled("stopped", (f"by {numbers.stopped}", "bold red"), f"  {tradebot} resume"))
    if numbers.pauses:
        lines.append(_labelled("paused", (in_words(numbers.pauses), "yellow"), f"  {tradebot} continue"))
    if numbers.plugins:
        lines.append(_plugins(numbers.plugins.values()))
    return lines + [_alert(alert) for alert in numbers.alerts[:ALERTS_SHOWN]]


def _plugins(told: Collection[PluginStatus]) -> Text:
    """How many plugins run in which mode, and those that should and do not."""
    modes = Counter(status.mode.value for status in told if status.state in (PluginState.RUNNING, PluginState.WARMING))
    running = ", ".join(f"{count} {mode}" for mode, count in sorted(modes.items())) or "none runs"
    failed = [status for status in told if status.state in FAILED]
    stuck = [status for status in told if status.state is PluginState.RUNNING and status.reason]
    words = [(f"  {status.name} {status.state.value}: {_single(status.reason)}", "bold red") for status in failed]
    words += [(f"  {status.name} keeps its version: {_single(status.reason)}", "yellow") for status in stuck]
    return _labelled("plugins", running, *words)


def _alert(alert: Alert) -> Text:
    style = "yellow" if alert.level is AlertLevel.WARNING else "bold red"
    moment = datetime.fromtimestamp(alert.ts_pub_ns / 1e9).astimezone()
    return _labelled("alert", (f"{moment:%H:%M:%S} ", "dim"), (f"{alert.level.value} {alert.code} ", style), _single(alert.text))


def one_line(numbers: Numbers, tradebot: str) -> str:
    """The same for the plain output."""
    return "; ".join(text.plain for text in (rates(numbers, 200), *figures(numbers), *attention(numbers, tradebot)))


def _labelled(label: str, *parts: str | tuple[str, str]) -> Text:
    return Text.assemble((f"{label:<9} ", "dim"), *parts)


def _money(amount: Decimal) -> tuple[str, str]:
    return f"{amount:+,.2f}", "green" if amount >= 0 else "red"


def positions(numbers: Numbers) -> list[Text]:
    """The largest open positions; what is too little to be sold is none."""
    rules = numbers.rules
    held = [item for item in numbers.positions.values() if is_open(item, rules.get((item.exchange, item.symbol)))]
    return [_position(item) for item in sorted(held, key=lambda item: item.cost, reverse=True)[:POSITIONS_SHOWN]]


def _position(item: Position) -> Text:
    profit = item.realised + item.unrealised - item.fees
    return _labelled("position", f"{plain(item.quantity)} {item.symbol} {item.strategy}  ", _money(profit))


def happenings(numbers: Numbers, story: Sequence[Line], room: int) -> list[Text]:
    """What happened last, in `room` lines, oldest first: half of them are the supervisor's when trading would fill all."""
    trading = _trading(numbers)
    for_story = min(STORY_SHOWN, max(room // 2, room - len(trading)))
    told = [(line.ts_ns, story_line(line)) for line in story[-for_story:]] if for_story > 0 else []
    chosen = [*told, *trading[-(room - len(told)) :]] if room > len(told) else told
    return [line for _, line in sorted(chosen, key=lambda dated: dated[0])]


def _trading(numbers: Numbers) -> list[tuple[int, Text]]:
    opinions = [signal for signal in numbers.signals if signal.direction is not Direction.HOLD][:3]
    messages: list[Message] = [*opinions, *numbers.decisions[:3], *numbers.orders[:4], *numbers.fills[:4]]
    return [(message.ts_pub_ns, _happening(message)) for message in sorted(messages, key=lambda message: message.ts_pub_ns)]


def _happening(message: Message) -> Text:
    match message:
        case Signal():
            style, text = "cyan", f"signal    {message.strategy} {message.direction.value} {message.symbol}: {message.reason}"
        case Decision():
            style, text = (
                "dim",
                f"decision  {message.verdict.value} {message.direction.value} {message.symbol}: {message.code} {message.reason}",
            )
        case OrderUpdate():
            price = "" if message.price is None else f" at {plain(message.price)}"
            filled = f", filled {plain(message.filled_quantity)}" if message.filled_quantity else ""
            what = f"{message.side.value} {plain(message.quantity)} {message.symbol}{price}"
            style, text = "", f"order     {what}: {message.status.value}{filled} {message.reason}"
        case Fill():
            style, text = (
                "bold",
                f"fill      {message.side.value} {plain(message.quantity)} {message.symbol} at {plain(message.price)}",
            )
        case _:
            style, text = "", type(message).__name__
    return _line(message.ts_pub_ns, text.rstrip(), style)


def story_line(line: Line) -> Text:
    return _line(line.ts_ns, line.text, "yellow" if line.warning else "")


def _line(ts_ns: int, text: str, style: str) -> Text:
    moment = datetime.fromtimestamp(ts_ns / 1e9).astimezone()
    return Text.assemble((f"{moment:%H:%M:%S} ", "dim"), (_single(text), style))


def _single(text: str) -> str:
    """Text of others on one line."""
    return text.replace("\n", " ")
