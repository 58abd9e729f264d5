"""
The rules around any KV connector of vLLM's (v1 interface): a class put before the connector's own in its bases.

Scheduler side. It opens a lease when blocks are allocated for a load, pins the blocks of a send, decides which notices
of finished transfers vLLM may see, and gives blocks back when the ledger says so. vLLM's own delayed free stays as it
is; the ledger's references are what keeps a block out of use.

A *carrier* is a connector whose transfers follow the abort handshake: it names the ranks that write, carries the
messages, and reports those that came. Of any other connector its word is taken when it says that a transfer is over:
late and repeated words are dropped, preempted and aborted requests are covered, but a connector that says "over" while
a peer still writes is believed (README.md has the table).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

from guard.backend.kv.ids import BlockId, Party
from guard.backend.kv.messages import ToDecode
from guard.backend.kv.rules import ALL
from guard.backend.vllm.race_free.ledger import Ledger
from guard.backend.vllm.race_free.metrics import metrics_type, stats_type

_log = logging.getLogger("vllm.plugins.guard")
_SNAPSHOT_SECONDS = 1.0


class Notices:
    """
    What a worker of a carrier tells the scheduler after a step (vLLM's KVConnectorWorkerMetadata).

    Args:
        messages: Messages of peers, in the order in which they came.
        gone: Processes of which there is proof that they can write no more.
        connections_failed: Connections that were not had for want of file descriptors, memory or threads.
    """

    def __init__(
        self, messages: Sequence[ToDecode] = (), gone: Sequence[Party] = (), connections_failed: int = 0
    ) -> None:
        self.messages = tuple(messages)
        self.gone = tuple(gone)
        self.connections_failed = connections_failed

    def aggregate(self, other: Notices) -> Notices:
        """Those of two ranks."""
        failed = self.connections_failed + other.connections_failed
        return Notices(self.messages + other.messages, self.gone + other.gone, failed)


class StepReport:
    """
    What the worker's side sends in each step, so that the scheduler's side hears of each.

    Args:
        inner: What the connector itself has to say; most steps of most connectors have nothing.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def aggregate(self, other: StepReport) -> StepReport:
        """Those of two ranks. The connector's own are put together by its own rules, and only where both have some."""
        if self.inner is None or other.inner is None:
            return StepReport(other.inner if self.inner is None else self.inner)
        return StepReport(self.inner.aggregate(other.inner))


class VllmBlocks:
    """
    References on vLLM's blocks.

    Args:
        pool: vLLM's `BlockPool`.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def hold(self, blocks: Sequence[BlockId]) -> None:
        """One more reference on each."""
        self._pool.touch([self._pool.blocks[block] for block in blocks])

    def give_back(self, blocks: Sequence[BlockId]) -> None:
        """One reference less on each; those without one are free."""
        self._pool.free_blocks([self._pool.blocks[block] for block in blocks])


class _Scheduling:
    """
    What the scheduler's side of one connector keeps.

    Args:
        ledger: The books.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        #: Local tokens of each request at its last look-up, and whether the load is asynchronous.
        self.matched: dict[str, tuple[int, bool]] = {}
        #: Requests that vLLM holds in WAITING_FOR_REMOTE_KVS; one notice lets each go on.
        self.awaiting: set[str] = set()
        #: Finished requests that vLLM keeps for a notice; one notice lets each go.
        self.leaving: set[str] = set()
        #: Of those, the ones that this side lets go.
        self.released: set[str] = set()
        #: Requests whose loss the workers are to report, and those of them that they have been told of.
        self.failing: set[str] = set()
        #: Synchronous loads, with the number of the step that performs them.
        self.during_step: dict[str, int] = {}
        #: When the metrics get the next snapshot. Unit: seconds.
        self.snapshot = 0.0
        self.launched = 0
        self.processed = 0

    def passing(self, notices: Iterable[str]) -> set[str]:
        """Those of these requests that vLLM still waits to hear of; the others are counted."""
        found = set()
        for request in notices:
            if request in self.awaiting or request in self.leaving:
                self.awaiting.discard(request)
                self.leaving.discard(request)
                found.add(request)
            else:
                self.ledger.dropped += 1
        return found


class RaceFree:
    """
    The mixin; `wrap` makes the class.

    Args:
        vllm_config: vLLM's configuration.
        role: vLLM's KVConnectorRole.
        kv_cache_config: Its KVCacheConfig.
    """

    #: A carrier sets this, and has `guard_room`, `guard_writers` and `guard_attach`.
    guard_carrier = False
    guard_rules = ALL

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any = None) -> None:
        self._guard: _Scheduling | None = None
        super().__init__(vllm_config, role, kv_cache_config)  # type: ignore[call-arg]
        parallel = vllm_config.parallel_config
        self._guard_split = parallel.decode_context_parallel_size * parallel.prefill_context_parallel_size > 1

    @property
    def guard_scheduling(self) -> _Scheduling:
        """The scheduler side's state."""
        if self._guard is None:
            raise RuntimeError("guard: this connector was never given vLLM's block pool (bind_gpu_block_pool)")
        return self._guard

    # Scheduler side

    def bind_gpu_block_pool(self, gpu_block_pool: Any) -> None:
        """vLLM's pool: the ledger begins."""
        super().bind_gpu_block_pool(gpu_block_pool)  # type: ignore[misc]
        extra = self._vllm_config.kv_transfer_config.kv_connector_extra_config  # type: ignore[attr-defined]
        ledger = Ledger(
            VllmBlocks(gpu_block_pool),
            gpu_block_pool.num_gpu_blocks,
            epoch=int(time.time()),
            timeout=float(extra.get("guard_timeout_seconds", 30.0)),
            resend=float(extra.get("guard_resend_seconds", 1.0)),
            rules=self.guard_rules,
        )
        self._guard = _Scheduling(ledger)

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int | None, bool]:
        """Remembers where the load will begin."""
        found: tuple[int | None, bool] = super().get_num_new_matched_tokens(  # type: ignore[misc]
            request, num_computed_tokens
        )
        if found[0]:
            self.guard_scheduling.matched[request.request_id] = (num_computed_tokens, found[1])
        return found

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """Opens the lease over the blocks that the load will write."""
        super().update_state_after_alloc(request, blocks, num_external_tokens)  # type: ignore[misc]
        name = request.request_id
        local, is_async = self.guard_scheduling.matched.pop(name, (0, True))
        if num_external_tokens <= 0:
            return
        state, now = self.guard_scheduling, time.monotonic()
        written = self._guard_written(blocks, local, num_external_tokens)
        if is_async:
            state.awaiting.add(name)
        if self.guard_carrier:
            writers = self.guard_writers(request)  # type: ignore[attr-defined]
            state.ledger.receive(name, self.guard_room(request), written, writers, now)  # type: ignore[attr-defined]
            return
        state.ledger.load(name, written, now)
        if not is_async:
            state.during_step[name] = state.launched + 1

    def build_connector_meta(self, scheduler_output: Any) -> Any:
        """Deadlines; a carrier gets the messages to send and the losses to report."""
        meta = super().build_connector_meta(scheduler_output)  # type: ignore[misc]
        state = self.guard_scheduling
        state.launched += 1
        state.ledger.tick(time.monotonic())
        self._guard_tell()
        if self.guard_carrier:
            sends, state.ledger.outbox = state.ledger.outbox, []
            self.guard_attach(meta, sends, frozenset(state.failing))  # type: ignore[attr-defined]
        return meta

    def update_connector_output(self, connector_output: Any) -> None:
        """A step's notices: the ledger hears all of them, vLLM those that it waits for."""
        if isinstance(connector_output.kv_connector_worker_meta, StepReport):
            connector_output.kv_connector_worker_meta = connector_output.kv_connector_worker_meta.inner
        super().update_connector_output(connector_output)  # type: ignore[misc]
        state, now = self.guard_scheduling, time.monotonic()
        state.processed += 1
        for name in [name for name, step in state.during_step.items() if step <= state.processed]:
            del state.during_step[name]
            state.ledger.loaded(name, now)
        received = set(connector_output.finished_recving or ())
        if self.guard_carrier:
            self._guard_heard(connector_output.kv_connector_worker_meta, now)
            received &= state.failing
            state.failing -= received
        else:
            received = {name for name in received if state.ledger.loaded(name, now)}
        received |= {name for name in state.ledger.received if name in state.awaiting} | state.released
        state.ledger.received.clear()
        state.released = set()
        for name in state.ledger.lost:
            if name in state.awaiting:
                state.failing.add(name)
        state.ledger.lost.clear()
        connector_output.finished_recving = state.passing(received) or None
        sent = {name for name in connector_output.finished_sending or () if state.ledger.unpin(name)}
        connector_output.finished_sending = state.passing(sent) or None

    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, Any]:
        """The request is over, for whatever reason: what it received into drains, what it sends is pinned."""
        later, params = super().request_finished(request, block_ids)  # type: ignore[misc]
        self._guard_finished(request.request_id, block_ids, later=later)
        return later, params

    def request_finished_all_groups(self, request: Any, block_ids: tuple[list[int], ...]) -> tuple[bool, Any]:
        """The same, of a connector that knows several groups of caches."""
        later, params = super().request_finished_all_groups(request, block_ids)  # type: ignore[misc]
        self._guard_finished(request.request_id, [each for group in block_ids for each in group], later=later)
        return later, params

    def has_pending_push_work(self) -> bool:
        """vLLM goes on stepping while something is to settle."""
        state = self.guard_scheduling
        mine = state.ledger.unsettled() or state.released or state.failing or state.ledger.outbox
        return bool(mine) or bool(super().has_pending_push_work())  # type: ignore[misc]

    def get_kv_connector_stats(self) -> Any:
        """The connector's own; where it never has any, a snapshot of the books, once a second."""
        found = super().get_kv_connector_stats()  # type: ignore[misc]
        now = time.monotonic()
        if found is not None or self._guard is None or now < self._guard.snapshot:
            return found
        self._guard.snapshot = now + _SNAPSHOT_SECONDS
        # Its own classes would be given the books' numbers, in the scheduler and in the front end, and fail on them.
        if super().build_kv_connector_stats() is not None:  # type: ignore[misc]
            return None
        ledger = self._guard.ledger
        handshakes, ledger.handshakes = ledger.handshakes, []
        return stats_type()(data={**ledger.stats(), "handshakes": handshakes})

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> Any:
        """The same at the place where they are shown."""
        found = super().build_kv_connector_stats(data)  # type: ignore[misc]
        return stats_type()(data=data or {}) if found is None else found

    @classmethod
    def build_prom_metrics(cls, *arguments: Any) -> Any:
        """The connector's own metrics, or those of the books."""
        found = super().build_prom_metrics(*arguments)  # type: ignore[misc]
        return metrics_type()(*arguments) if found is None else found

    # Worker side

    def build_connector_worker_meta(self) -> Any:
        """The connector's own, or nothing, and that in each step."""
        return StepReport(super().build_connector_worker_meta())  # type: ignore[misc]

    def _guard_written(self, blocks: Any, local: int, external: int) -> tuple[BlockId, ...]:
        """Blocks that a load of these tokens may write; where that cannot be told, all of the request's."""
        groups = blocks.blocks
        if len(groups) != 1 or self._guard_split:
            return tuple(dict.fromkeys(each.block_id for group in groups for each in group if not each.is_null))
        size = self._kv_cache_config.kv_cache_groups[0].kv_cache_spec.block_size  # type: ignore[attr-defined]
        first, last = local // size, -(-(local + external) // size)
        return tuple(each.block_id for each in groups[0][first:last] if not each.is_null)

    def _guard_heard(self, notices: Notices | None, now: float) -> None:
        ledger = self.guard_scheduling.ledger
        for message in notices.messages if notices is not None else ():
            ledger.handle(message, now)
        for party in notices.gone if notices is not None else ():
            ledger.gone(party, now)
        ledger.connections_failed += notices.connections_failed if notices is not None else 0
        self._guard_tell()

    def _guard_finished(self, name: str, block_ids: Sequence[int], *, later: bool) -> None:
        state = self.guard_scheduling
        if later:
            state.ledger.pin(name, tuple(dict.fromkeys(BlockId(each) for each in block_ids if each)))
        awaited = name in state.awaiting
        state.ledger.close(name, time.monotonic())
        state.matched.pop(name, None)
        state.failing.discard(name)
        state.awaiting.discard(name)
        if awaited or later:
            state.leaving.add(name)
        if awaited and not later:
            state.released.add(name)

    def _guard_tell(self) -> None:
        ledger = self.guard_scheduling.ledger
        alerts, ledger.alerts = ledger.alerts, []
        for alert in alerts:
            _log.error(
                "guard: %d blocks of request %s are quarantined: %s did not answer in time. They come back with the "
                "answer, or with proof that it is gone.",
                len(alert.blocks),
                alert.owner.request,
                ", ".join(f"{party.name} rank {party.rank}" for party in alert.waiting),
            )


def wrap(inner: Any) -> Any:
    """
    The connector with the rules around it.

    Args:
        inner: A class of vLLM's KVConnectorBase_V1.

    Returns:
        A subclass of it; the same one each time.
    """
    if issubclass(inner, RaceFree):
        return inner
    made: Any = inner.__dict__.get("_guard_wrapped")
    if made is None:
        made = type(inner.__name__, (RaceFree, inner), {"__module__": inner.__module__, "__doc__": inner.__doc__})
        # A carrier's own settings stand before the mixin's.
        made.guard_carrier = getattr(inner, "guard_carrier", RaceFree.guard_carrier)
        made.guard_rules = getattr(inner, "guard_rules", RaceFree.guard_rules)
        inner._guard_wrapped = made
    return made
