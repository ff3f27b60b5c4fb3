"""One producer's way into one stream: numbered, preformatted entries, and what had to be dropped."""

from __future__ import annotations

import msgspec

from bus.codec import encode
from bus.gaps import stream_gap
from bus.streams import Stream, StreamClass
from runtime.clock import monotonic_ns

FIELD = "d"
"""The one field of a stream entry: the encoded message."""


class Batch:
    """Entries of one lane with consecutive sequence numbers, ready to be written."""

    __slots__ = ("chunks", "first", "lane", "loss", "retried", "size", "taken_ns")

    def __init__(self, lane: Lane, first: int, chunks: list[bytes], *, retried: bool = False, taken_ns: int = 0) -> None:
        self.lane = lane
        self.taken_ns = taken_ns or monotonic_ns()  # when the producer's turn was over
        self.first = first
        self.chunks = chunks
        self.retried = retried  # it was written before, and not or not for certain stored
        self.loss: Loss | None = None  # what a gap message tells of
        self.size = sum(map(len, chunks))

    @property
    def last(self) -> int:
        return self.first + len(self.chunks) - 1

    def part(self, start: int, stop: int, *, retried: bool = False) -> Batch:
        chunks, retried = self.chunks[start:stop], retried or self.retried
        part = Batch(self.lane, self.first + start, chunks, retried=retried, taken_ns=self.taken_ns)
        part.loss = self.loss
        return part


class Loss:
    """A range of sequence numbers that was dropped and is not told yet; times are those of its first and last message."""

    __slots__ = ("first", "from_ns", "last", "to_ns")

    def __init__(self, batch: Batch) -> None:
        self.first = batch.first
        self.last = batch.last
        self.from_ns = published_ns(batch.chunks[0])
        self.to_ns = published_ns(batch.chunks[-1])


class Lane:
    """Sequence numbers and preformatted XADDs of one producer for one stream.

    What was dropped is told by gap messages. Each takes the last number that it speaks of as its own, so that it stands in the
    stream where the data would have been.
    """

    __slots__ = ("_losses", "blocked", "dropped", "fresh", "prefix", "sequence", "stream", "template")

    def __init__(self, stream: Stream, producer: str, epoch: str) -> None:
        self.stream = stream
        self.prefix = f"{producer}.{stream.label}:{epoch}:"
        self.sequence = 0
        self.template = add_template(stream)
        self.fresh: list[bytes] = []
        self.blocked = False
        self.dropped = 0
        self._losses: list[Loss] = []

    @property
    def lossless(self) -> bool:
        return self.stream.stream_class is StreamClass.LOSSLESS

    def take_fresh(self) -> Batch:
        """What was put since the last call."""
        chunks, self.fresh = self.fresh, []
        return Batch(self, self.sequence - len(chunks) + 1, chunks)

    def drop(self, batch: Batch) -> int:
        """Give a batch up; returns how many entries of the buffer that frees, the gap message being one of what remains."""
        count = len(batch.chunks)
        loss = batch.loss
        if loss is None:
            self.dropped += count
            loss = Loss(batch)
        if self._losses and self._losses[-1].last + 1 == loss.first:
            self._losses[-1].last, self._losses[-1].to_ns = loss.last, loss.to_ns
            return count
        self._losses.append(loss)
        return count - 1

    def take_gaps(self) -> list[Batch]:
        """The messages that tell what was dropped, once."""
        losses, self._losses = self._losses, []
        return [self._gap(loss) for loss in losses]

    def _gap(self, loss: Loss) -> Batch:
        first, last = f"{self.prefix}{loss.first}", f"{self.prefix}{loss.last}"
        reason = "dropped by the producer: its buffer was full"
        times = {"from_ns": loss.from_ns, "to_ns": loss.to_ns}
        gap = stream_gap(self.stream.name, reason, first=first, last=last, count=loss.last - loss.first + 1, **times)
        body = encode(msgspec.structs.replace(gap, message_id=last))
        batch = Batch(self, loss.last, [self.template % (len(body), body)])
        batch.loss = loss
        return batch


class _Stamp(msgspec.Struct):
    ts_pub_ns: int = 0


_stamp = msgspec.json.Decoder(_Stamp)


def published_ns(chunk: bytes) -> int:
    """`ts_pub_ns` of the message in a formatted entry."""
    return _stamp.decode(chunk[chunk.index(b'{"') : -2]).ts_pub_ns


def add_template(stream: Stream) -> bytes:
    """The RESP form of `XADD stream [MAXLEN ~ n] * d BODY`, to be completed by `% (len(body), body)`."""
    words = ["XADD", stream.name]
    if stream.max_entries:
        words += ["MAXLEN", "~", str(stream.max_entries)]
    words += ["*", FIELD]
    head = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
    return f"*{len(words) + 1}\r\n{head}".replace("%", "%%").encode() + b"$%d\r\n%b\r\n"
