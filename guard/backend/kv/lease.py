"""
Leases: the announcement that somebody may read or write a block from now on (rule 2).

A lease is opened before the access is queued and settles when every party to it has said that its part is over. Between
the two the block belongs to it, whatever becomes of the request: that gap is where T1, T11, T12, H6 and H7 live.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from guard.backend.kv.ids import BlockId, LeaseId, Owner, Party


class Kind(StrEnum):
    """What the access is."""

    #: A launched step reads or writes the block.
    STEP = "step"
    #: A peer writes it.
    RECEIVE = "receive"
    #: It is read for a peer, or by one.
    SEND = "send"
    #: The host tier writes it.
    LOAD = "load"
    #: The host tier reads it.
    STORE = "store"


#: Kinds after which the content of the block is another.
WRITES = frozenset({Kind.RECEIVE, Kind.LOAD})


class Lease(msgspec.Struct, frozen=True):
    """
    One announced access.

    Args:
        id: Its number.
        owner: The request and generation it is made for.
        kind: What it is.
        blocks: Blocks it touches.
        waiting: Parties that have not settled their share.
        suspect: It has missed a deadline.
    """

    id: LeaseId
    owner: Owner
    kind: Kind
    blocks: tuple[BlockId, ...]
    waiting: frozenset[Party]
    suspect: bool = False
