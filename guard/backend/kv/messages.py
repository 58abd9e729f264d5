"""
Messages of the abort handshake and their wire form.

    decode -> prefill    Destination, Abort
    prefill -> decode    LayerDone, Done, Drained, Hello
    reader  -> owner     ReadDone, Hello (pull transfers, see `grants`)

Each is a map in MessagePack (or JSON): `type` names it, the other keys are the fields below. Unknown keys are ignored,
so that a later version may add some; an unknown type is an error. The channel may lose, double and reorder messages:
nothing here rests on its order, and the answer to a repeated abort is the same answer.

What a sender of Done or Drained promises is the same: no write of mine for this request and generation is outstanding,
and none will start. They differ in whether the content is complete.
"""

from __future__ import annotations

import msgspec

from guard.backend.kv.ids import BlockId, Owner, Party


class Destination(msgspec.Struct, frozen=True, tag="destination"):
    """
    Write the request's KV into these blocks of mine.

    Args:
        request: Request id.
        generation: Its generation at the decode side.
        blocks: Destination blocks, in token order.
        floor: Every generation below this one is settled at the decode side; the prefill side may forget them and
            refuses them from now on.
        epoch: Epoch of the process it is meant for. A later one answers Hello: it must not write under the lease of the
            one before, which its Hello settles.
    """

    request: str
    generation: int
    blocks: tuple[BlockId, ...]
    floor: int = 0
    epoch: int = 0

    @property
    def owner(self) -> Owner:
        """Request and generation."""
        return Owner(self.request, self.generation)


class Abort(msgspec.Struct, frozen=True, tag="abort"):
    """Write no more for this request and generation, and say when you are done with it. Fields as in Destination."""

    request: str
    generation: int
    floor: int = 0
    epoch: int = 0

    @property
    def owner(self) -> Owner:
        """Request and generation."""
        return Owner(self.request, self.generation)


class _Notice(msgspec.Struct, frozen=True):
    """
    What a process says of a request and generation.

    Args:
        request: Request id.
        generation: Its generation, as the other side gave it.
        name: The sender's name.
        rank: Its rank.
        epoch: Epoch of its process.
    """

    request: str
    generation: int
    name: str
    rank: int = 0
    epoch: int = 0

    @property
    def owner(self) -> Owner:
        """Request and generation."""
        return Owner(self.request, self.generation)

    @property
    def party(self) -> Party:
        """Who says it."""
        return Party(self.name, self.rank, self.epoch)


class LayerDone(_Notice, frozen=True, tag="layer_done", kw_only=True):
    """My share of this layer is complete in your memory. `layer` counts from 0."""

    layer: int


class Done(_Notice, frozen=True, tag="done"):
    """My share of every layer is complete, and nothing is outstanding."""


class Drained(_Notice, frozen=True, tag="drained"):
    """Nothing is outstanding and nothing will start; the content is not complete."""


class ReadDone(_Notice, frozen=True, tag="read_done"):
    """Pull transfers, decode -> prefill: I will read your blocks of this request and generation no more."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """A process of this epoch speaks for the rank now: the one before it is gone, and its writes with it."""

    name: str
    rank: int
    epoch: int

    @property
    def party(self) -> Party:
        """Who says it."""
        return Party(self.name, self.rank, self.epoch)


ToPrefill = Destination | Abort
ToDecode = LayerDone | Done | Drained | Hello
Message = ToPrefill | ToDecode | ReadDone

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Destination | Abort | LayerDone | Done | Drained | ReadDone | Hello)


def encode(message: Message) -> bytes:
    """The message in MessagePack."""
    return _encoder.encode(message)


def decode(data: bytes) -> Message:
    """
    The message in these bytes.

    Raises:
        msgspec.DecodeError: They are none of ours. (Its subclass ValidationError names the field.)
    """
    message: Message = _decoder.decode(data)
    return message
