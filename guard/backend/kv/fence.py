"""
Steps in flight (rule 6).

With asynchronous scheduling the next step is launched before the last one's tokens are known, so when step N says that
a request has ended, step N+1 may be writing its next token already:

- S1: step N says R ended, B is freed and handed to a transfer; step N+1 still writes R's token into B. A release waits
  for the newest step launched at that moment (`step_fence`).
- S2: blocks are freed on the optimistic token count, then speculative rejection rolls the count back. Counts come in
  two: scheduled, and settled; only the settled one frees (`settled_counts`).
- S3: a row of the request table is reused while a launched step still reads it. Rows are released like blocks.
- S4: the guard against S1 starves: preemption frees nothing, so nothing can be launched, so nothing is freed. The fence
  waits for no step later than the newest one launched, and for none at all when none is in flight (`fence_is_bounded`);
  `KvCache.coming` tells the scheduler what it need not preempt again.
"""

from __future__ import annotations

import msgspec

from guard.backend.kv.ids import Owner, Party, StepId
from guard.backend.kv.rules import ALL, Rules
from guard.errors import GuardError


class StepOrderError(GuardError):
    """Steps are processed in the order in which they were launched; this one is not the next."""


class TokenCount(msgspec.Struct, frozen=True):
    """
    Tokens of one request in the cache.

    Args:
        scheduled: Counting drafted tokens as if all were kept. Unit: tokens.
        settled: Those that are certain. Unit: tokens.
    """

    scheduled: int = 0
    settled: int = 0


class Fence:
    """
    Launched and processed steps, and each request's counts.

    Args:
        rules: Clauses in force.
    """

    def __init__(self, rules: Rules = ALL) -> None:
        self._rules = rules
        self.launched = 0
        self.processed = 0
        self._counts: dict[Owner, TokenCount] = {}

    def launch(self, scheduled: dict[Owner, int]) -> StepId:
        """
        A step goes to the device.

        Args:
            scheduled: Each request's tokens in the cache after it, if every draft is kept. Unit: tokens.

        Returns:
            The step's number, from 1.
        """
        self.launched += 1
        for owner, tokens in scheduled.items():
            self._counts[owner] = TokenCount(tokens, self.count(owner).settled)
        return StepId(self.launched)

    def process(self, step: StepId, settled: dict[Owner, int]) -> Party:
        """
        The step's output has been processed: its device work is over and its tokens are known.

        Args:
            step: The oldest step in flight.
            settled: Each request's tokens in the cache that are certain now. Unit: tokens.

        Returns:
            The party that settles the step's leases.

        Raises:
            StepOrderError: It is not the oldest step in flight.
        """
        if step != self.processed + 1 or step > self.launched:
            raise StepOrderError(f"step {step} was processed; the next is {self.processed + 1} of {self.launched}")
        self.processed += 1
        for owner, tokens in settled.items():
            if owner in self._counts:
                self._counts[owner] = TokenCount(max(self._counts[owner].scheduled, tokens), tokens)
        return Party("step", step)

    def waits_for(self) -> Party | None:
        """The step that a release at this moment waits for, or None if it need not wait."""
        if not self._rules.step_fence:
            return None
        if not self._rules.fence_is_bounded:
            return Party("step", self.launched + 1)
        return Party("step", self.launched) if self.launched > self.processed else None

    def count(self, owner: Owner) -> TokenCount:
        """The request's counts; zero before its first step."""
        return self._counts.get(owner, TokenCount())

    def certain(self, owner: Owner, tokens: int) -> None:
        """Tokens of the request that are in the cache without a step: found there, received or loaded."""
        self._counts[owner] = TokenCount(
            max(self.count(owner).scheduled, tokens), max(self.count(owner).settled, tokens)
        )

    def may_leave(self, owner: Owner) -> int:
        """Tokens on which freeing inside a running request is decided."""
        count = self.count(owner)
        return count.settled if self._rules.settled_counts else count.scheduled

    def forget(self, owner: Owner) -> None:
        """The request is over."""
        self._counts.pop(owner, None)
