"""What the cache asks the engine to do, or tells it."""

from __future__ import annotations

import msgspec

from guard.backend.kv.ids import BlockId, Owner, Party
from guard.backend.kv.messages import Message


class Freed(msgspec.Struct, frozen=True):
    """These blocks are free now; an engine with a pool of its own puts them back only on this."""

    blocks: tuple[BlockId, ...]


class Send(msgspec.Struct, frozen=True):
    """Send this message to that peer. It may be lost, doubled or overtaken."""

    to: Party
    message: Message


class Start(msgspec.Struct, frozen=True):
    """Prefill side: writes for this room may be posted, each after `Sender.post` said yes."""

    owner: Owner
    blocks: tuple[BlockId, ...]


class LayerReady(msgspec.Struct, frozen=True):
    """This layer of the request's blocks is complete, from every rank."""

    owner: Owner
    layer: int


class Received(msgspec.Struct, frozen=True):
    """The content of the request's blocks is complete. Told once."""

    owner: Owner


class Lost(msgspec.Struct, frozen=True):
    """The content will never be complete: fail the request or compute it here, on other blocks. Told once."""

    owner: Owner
    why: str


class Quarantined(msgspec.Struct, frozen=True):
    """
    A deadline has passed with accesses outstanding: raise the metric and the alert.

    Args:
        owner: Request and generation.
        blocks: Blocks that stay out of use.
        waiting: Who has not answered.
    """

    owner: Owner
    blocks: tuple[BlockId, ...]
    waiting: tuple[Party, ...]


Effect = Freed | Send | Start | LayerReady | Received | Lost | Quarantined
