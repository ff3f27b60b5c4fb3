"""What the plugins together think of a market."""

from __future__ import annotations

from common_models import Direction, Signal
from strategy import Market

SIGNS = {Direction.BUY: 1.0, Direction.SELL: -1.0, Direction.HOLD: 0.0}


class Consensus:
    """The last opinion of every plugin on every market; it stands until the plugin gives another.

    The score of a market is the mean of the signed strengths, weighted by confidence, of those plugins that want to buy or sell:
    +1 is a unanimous strong buy, -1 a unanimous strong sell. Plugins that hold abstain. Fewer than `min_opinions` of them are no
    consensus: after a start the first to speak would decide alone, against what the others are about to say.
    """

    def __init__(self, min_opinions: int = 1) -> None:
        self._min_opinions = min_opinions
        self._opinions: dict[Market, dict[str, Signal]] = {}
        self._scores: dict[Market, float] = {}

    def give(self, signal: Signal) -> None:
        """Replace a plugin's opinion on a market."""
        market = Market(signal.exchange, signal.symbol)
        self._opinions.setdefault(market, {})[signal.strategy] = signal
        self._scores[market] = self._score(market)

    def withdraw(self, plugin: str, market: Market | None = None) -> None:
        """Forget what a plugin thinks: of one market, or, when it was disabled, of all."""
        for known, opinions in self._opinions.items():
            if market in (None, known) and opinions.pop(plugin, None) is not None:
                self._scores[known] = self._score(known)

    def score(self, market: Market) -> float:
        """-1 to +1; 0 when nobody has an opinion."""
        return self._scores.get(market, 0.0)

    def voters(self, market: Market) -> list[Signal]:
        """The opinions behind the score."""
        return [signal for signal in self._opinions.get(market, {}).values() if signal.direction is not Direction.HOLD]

    def _score(self, market: Market) -> float:
        voters = self.voters(market)
        weight = sum(signal.confidence for signal in voters)
        if not weight or len(voters) < self._min_opinions:
            return 0.0
        return sum(SIGNS[signal.direction] * signal.strength * signal.confidence for signal in voters) / weight
