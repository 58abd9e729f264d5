"""
The connector: `kv_connector="PushConnector"`, `kv_connector_module_path="guard.backend.vllm.push.connector"`.

It is a carrier of `guard.backend.vllm.race_free` and refuses to run without it. A router sends one request to both
engines, under one room:

    prefill engine   max_tokens 1, kv_transfer_params {"push": "send", "room": R}
    decode engine    kv_transfer_params {"push": "receive", "room": R, "from": NAME}

Content is given once: of a request with n > 1 one choice receives it, and the others are told at once that it is lost
to them. With kv_load_failure_policy "recompute" they find it in the cache; with "fail" they fail.

The two may have another number of tensor-parallel ranks (`givers`). With LayerSplit, which works on the side that
sends, each rank gives the layers that it owns, from its own cache; the request is complete with the last rank's.

`kv_connector_extra_config`:

| key | side | meaning |
|---|---|---|
| `name` | both | this engine's name |
| `listen` | prefill | path of its socket; the rank's number is added |
| `peers` | decode | path by name of the prefill engines |
| `keep_seconds` | prefill | how long content waits to be asked for |
| `connect_seconds` | decode | longest wait for a prefill engine that is not there; then it is computed here |
| `layer_waits` | decode | the forward pass begins at once, waits in each layer; kv_load_failure_policy must be "fail" |
| `guard_timeout_seconds`, `guard_resend_seconds` | decode | of the handshake |
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorTransferResults,
)

from guard.backend.kv.effects import Send
from guard.backend.kv.ids import Party
from guard.backend.kv.messages import Destination
from guard.backend.kv.rules import ALL
from guard.backend.vllm.push.givers import Givers, Holding
from guard.backend.vllm.push.memory import share
from guard.backend.vllm.push.receive import Receiving
from guard.backend.vllm.push.send import Card, Sending
from guard.backend.vllm.push.shelf import Content
from guard.backend.vllm.push.wire import Gives, Register
from guard.backend.vllm.race_free.connector import Notices, RaceFree

_log = logging.getLogger("vllm.plugins.guard")
SEND, RECEIVE = "send", "receive"
#: Ends of a prefill whose whole prompt is in the cache.
_COMPLETE = frozenset({"FINISHED_STOPPED", "FINISHED_LENGTH_CAPPED"})


class PushNotices(Notices):
    """
    What a rank tells the scheduler's side after a step.

    Args:
        gives: What prefill ranks said they give, before their first message.
        notices: The rest.
    """

    def __init__(self, gives: Sequence[Gives], notices: Notices) -> None:
        super().__init__(notices.messages, notices.gone, notices.connections_failed)
        self.gives = tuple(gives)

    def aggregate(self, other: Notices) -> PushNotices:
        """Those of two ranks."""
        gives = other.gives if isinstance(other, PushNotices) else ()
        return PushNotices(self.gives + gives, super().aggregate(other))


class PushMetadata(KVConnectorMetadata):  # type: ignore[misc]
    """
    What the scheduler's side tells the workers in a step.

    Args:
        contents: Prefills that have finished.
        given_up: Rooms of prefills that never will.
    """

    def __init__(self, contents: Sequence[Content], given_up: Sequence[str]) -> None:
        self.contents = tuple(contents)
        self.given_up = tuple(given_up)
        #: Messages to send, losses to report, and transfers that this step's forward pass waits for.
        self.sends: tuple[Send, ...] = ()
        self.failed: frozenset[str] = frozenset()
        self.awaited: tuple[Destination, ...] = ()


class PushConnector(KVConnectorBase_V1):  # type: ignore[misc]
    """
    See the module.

    Args:
        vllm_config: vLLM's configuration.
        role: Scheduler or worker.
        kv_cache_config: Groups and blocks.
    """

    guard_carrier = True
    guard_rules = ALL
    guard_sender_rules = ALL
    guard_card: type[Card] = Card
    #: LayerSplit may say which layers this rank keeps, and which of them no other rank does.
    guard_layer_split = True
    guard_kept: frozenset[str] | None = None
    guard_owned: frozenset[str] = frozenset()

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any = None) -> None:
        if not isinstance(self, RaceFree):
            raise TypeError("guard: the push connector needs the rules around it; set GUARD_VLLM_RACE_FREE=1")
        super().__init__(vllm_config, role, kv_cache_config)
        transfer = vllm_config.kv_transfer_config
        extra = transfer.kv_connector_extra_config
        self._name = str(extra.get("name", transfer.engine_id))
        self._listen: str | None = extra.get("listen")
        self._peers: dict[str, str] = dict(extra.get("peers", {}))
        self._keep = float(extra.get("keep_seconds", 60.0))
        self._connect = float(extra.get("connect_seconds", 5.0))
        self._layer_waits = bool(extra.get("layer_waits", False))
        self._patience = float(extra.get("guard_timeout_seconds", 30.0))
        self._block_size: int = vllm_config.cache_config.block_size
        self._ranks: int = vllm_config.parallel_config.tensor_parallel_size
        if self._layer_waits and transfer.kv_load_failure_policy != "fail":
            raise ValueError('guard: layer_waits needs kv_load_failure_policy "fail": half a load is not recomputed')
        self._contents: list[Content] = []
        self._given_up: list[str] = []
        self._givers = Givers(self._ranks)
        self._blamed: set[str] = set()
        self._heads = _kv_heads(vllm_config)
        self._asked: dict[str, float] = {}
        self._awaited: set[str] = set()
        self._sending: Sending | None = None
        self._receiving: Receiving | None = None
        self._rank = 0
        self._layer_numbers: dict[str, int] = {}
        self._invalid: set[int] = set()

    @classmethod
    def requires_piecewise_for_cudagraph(cls, extra_config: dict[str, Any]) -> bool:
        """A captured graph of the whole pass would replay without the waits."""
        return bool(extra_config.get("layer_waits", False))

    # Scheduler side

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int | None, bool]:
        """All full blocks of the prompt but those here already; the last token is computed here."""
        params = request.kv_transfer_params or {}
        count = self._full_blocks(request) * self._block_size - num_computed_tokens
        if params.get("push") != RECEIVE or count <= 0:
            return 0, False
        if not self.guard_writers(request):
            since = self._asked.setdefault(request.request_id, time.monotonic())
            if time.monotonic() - since < self._connect and params.get("from") in self._peers:
                return None, False
            self._asked.pop(request.request_id, None)
            self._blame(params.get("from"))
            return 0, False
        self._asked.pop(request.request_id, None)
        return count, not self._layer_waits

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """A request asks once; after a loss it is computed here."""
        if num_external_tokens > 0:
            request.kv_transfer_params["push"] = None
            if self._layer_waits:
                self._awaited.add(self.guard_room(request))

    def build_connector_meta(self, scheduler_output: Any) -> PushMetadata:
        """What has finished since the last step."""
        meta = PushMetadata(self._contents, self._given_up)
        self._contents, self._given_up = [], []
        return meta

    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        """A finished prefill keeps its blocks until they are sent; one that did not finish gives its room up."""
        params = request.kv_transfer_params or {}
        self._asked.pop(request.request_id, None)
        if params.get("push") != SEND:
            return False, None
        blocks = tuple(block_ids[: self._full_blocks(request)])
        if request.num_output_tokens > 0 and blocks and request.status.name in _COMPLETE:
            self._contents.append(Content(self.guard_room(request), request.request_id, blocks))
            return True, None
        self._given_up.append(self.guard_room(request))
        return False, None

    def has_pending_push_work(self) -> bool:
        """Whether a step is needed to tell the workers."""
        return bool(self._contents or self._given_up)

    def guard_room(self, request: Any) -> str:
        """The name under which both engines know the request."""
        params = request.kv_transfer_params or {}
        return str(params.get("room") or request.request_id)

    def guard_writers(self, request: Any) -> tuple[Party, ...]:
        """All ranks of the prefill engine that write; none while a layer of any rank has nobody who does."""
        name = (request.kv_transfer_params or {}).get("from")
        return self._givers.writers(str(name), self.guard_scheduling.ledger.peers)

    def update_connector_output(self, connector_output: Any) -> None:
        """Who gives what is known before the first message of whoever gives it."""
        notices = connector_output.kv_connector_worker_meta
        for gives in notices.gives if isinstance(notices, PushNotices) else ():
            self._givers.heard(gives)

    def guard_attach(self, meta: PushMetadata, sends: Sequence[Send], failed: frozenset[str]) -> None:
        """What the ledger wants sent and reported."""
        meta.sends, meta.failed = tuple(sends), failed
        wanted = (send.message for send in sends if isinstance(send.message, Destination))
        meta.awaited = tuple(message for message in wanted if message.request in self._awaited)
        self._awaited -= {message.request for message in meta.awaited}

    # Worker side

    def register_kv_caches(self, kv_caches: dict[str, Any]) -> None:
        """Open this rank's memory to its peers, and listen or connect."""
        from vllm.distributed.parallel_state import get_tensor_model_parallel_rank  # noqa: PLC0415

        rank, epoch = get_tensor_model_parallel_rank(), int(time.time())
        self._rank = rank
        if self.guard_kept not in (None, set(kv_caches)):
            raise ValueError(f"guard: LayerSplit keeps {sorted(self.guard_kept or ())}, vLLM has {sorted(kv_caches)}")
        self._layer_numbers = {name: number for number, name in enumerate(kv_caches)}
        if self._listen is not None:
            self._sending = Sending(
                Party(self._name, rank, epoch),
                self._listen,
                kv_caches,
                block_size=self._block_size,
                holding=Holding(rank, self._ranks, self._heads, self.guard_owned),
                keep=self._keep,
                rules=self.guard_sender_rules,
                card=self.guard_card,
            )
        if self._peers:
            path, size, layers = share(kv_caches)
            register = Register(self._name, rank, self._ranks, epoch, path, size, self._block_size, layers)
            self._receiving = Receiving(register, self._peers)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Send what is to be sent; earlier steps have written what they had to, so sources are whole (T14)."""
        meta = self._get_connector_metadata()
        if self._receiving is not None:
            mine = [send for send in meta.sends if send.to.rank % self._ranks == self._rank]
            for send in mine:
                if isinstance(send.message, Destination) and send.message in meta.awaited:
                    self._receiving.gate.watch(send.message.owner, send.to)
            self._receiving.send(mine)
        if self._sending is not None:
            for room in meta.given_up:
                self._sending.give_up(room)
            for content in meta.contents:
                self._sending.offer(content)

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Return when the layer may be read, or is known never to come: then its blocks are reported as invalid."""
        meta = self._get_connector_metadata()
        if not meta.awaited or self._receiving is None:
            return
        layer = self._layer_numbers[layer_name]
        # One message to each rank that writes: the same blocks in all.
        for message in {message.owner: message for message in meta.awaited}.values():
            if not self._receiving.gate.wait(message.owner, layer, self._patience):
                self._invalid.update(message.blocks)

    def save_kv_layer(self, layer_name: str, kv_layer: Any, attn_metadata: Any, **kwargs: Any) -> None:
        """Content is offered when the whole prompt is computed. `kv_layer` may be a scratch slot and is not read."""

    def wait_for_save(self) -> None:
        """The forward pass is over."""
        if self._receiving is not None:
            for message in self._get_connector_metadata().awaited:
                self._receiving.gate.forget(message.owner)

    def get_transfer_results(self, finished_req_ids: Iterable[str]) -> KVConnectorTransferResults:
        """Sources that are read no more, and the losses that the scheduler's side wants reported."""
        failed = set(self._get_connector_metadata().failed)
        sent = self._sending.taken() if self._sending is not None else set()
        return KVConnectorTransferResults(finished_sending=sent, finished_recving=set(failed), failed_recving=failed)

    def get_block_ids_with_load_errors(self) -> set[int]:
        """Blocks of layers that never came."""
        invalid, self._invalid = self._invalid, set()
        return invalid

    def build_connector_worker_meta(self) -> Notices:
        """What peers said since the last step, and what connections could not be had."""
        failed = sum(side.short.taken() for side in (self._sending, self._receiving) if side is not None)
        if self._receiving is None:
            return Notices(connections_failed=failed)
        messages, gone = self._receiving.taken()
        return PushNotices(self._receiving.taken_gives(), Notices(messages, gone, failed))

    def shutdown(self) -> None:
        """End connections."""
        if self._sending is not None:
            self._sending.close()
        if self._receiving is not None:
            self._receiving.close()
        self._sending = self._receiving = None

    def _blame(self, name: Any) -> None:
        """Say once what stands against an engine that is there."""
        peers = self.guard_scheduling.ledger.peers
        if name not in self._blamed and any(engine == name for engine, _ in peers):
            self._blamed.add(name)
            _log.error("guard: requests from %s are computed here: %s", name, self._givers.missing(name, peers))

    def _full_blocks(self, request: Any) -> int:
        blocks: int = (request.num_prompt_tokens - 1) // self._block_size
        return blocks


def _kv_heads(vllm_config: Any) -> int | None:
    """KV heads that are divided over the ranks; None where a draft has another number."""
    draft = getattr(vllm_config.speculative_config, "draft_model_config", None)
    models = [vllm_config.model_config, *([draft] if draft is not None else [])]
    # What MLA keeps has no heads.
    heads = {1 if model.use_mla else model.get_total_num_kv_heads() for model in models}
    return heads.pop() if len(heads) == 1 else None
