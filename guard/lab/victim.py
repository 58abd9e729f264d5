"""What the demo needs of a replica whose KV cache it spoils."""

from __future__ import annotations

from typing import Any, Protocol

from guard.lab.inject import FaultPlan


class Victim(Protocol):
    """A running replica; `guard.lab.faulty` has one before llama.cpp, `guard.lab.vllm_replica` is one with vLLM."""

    @property
    def url(self) -> str:
        """Its address."""
        ...

    @property
    def hint(self) -> str:
        """How to spoil an answer by hand, in one line."""
        ...

    def arm(self, plan: FaultPlan) -> None:
        """Spoil the next request."""
        ...

    def disarm(self) -> None:
        """Spoil nothing more."""
        ...

    async def heal(self) -> None:
        """Leave nothing spoilt behind for later requests."""
        ...

    def fields(self) -> dict[str, Any]:
        """What the next request must carry besides the question."""
        ...
