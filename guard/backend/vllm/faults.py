"""
Puts faults into the KV cache of running requests, for tests and demos; only where GUARD_VLLM_FAULTS=1 is set.

A request asks for its own fault in `vllm_xargs`, which all of vLLM's routes pass on to the workers:

    "vllm_xargs": {"guard_fault": "noise", "guard_fault_onset": 40, "guard_fault_id": "first"}

The worker overwrites the request's blocks before the first step that begins with that many tokens generated, the
blocks of its prompt too: found again in the prefix cache, they spoil the next request with this beginning as well. An
order is carried out `times` times in the life of the server, so that a retry, which carries the same order, is left
alone by it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from guard.backend.vllm.patching import Patches
from guard.backend.vllm.releases import Hook

if TYPE_CHECKING:
    import torch

#: Must be 1, or nothing here is ever active.
SWITCH: Final = "GUARD_VLLM_FAULTS"
#: Key of the kind in `vllm_xargs`; the other settings follow it with an underscore.
KEY: Final = "guard_fault"
#: Parts of the log lines that tests and demos look for.
ACTIVE: Final = "guard faults: ANY REQUEST MAY CORRUPT ITS CACHE HERE"
DONE: Final = "guard fault carried out: "

_HOOK: Final = Hook("vllm.v1.worker.gpu_model_runner", "GPUModelRunner", "_update_states", ("self", "scheduler_output"))
_INJECTOR: Final = "_guard_faults"
# Below "vllm", whose handlers and level it then has.
_log = logging.getLogger("vllm.plugins.guard")


class FaultPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What a request asks to be done to its cache.

    Args:
        kind: `noise` of the same mean and spread; `zeros`; `splice`: another request's blocks in shuffled order, those
            of one that runs, else of the one that ended last; `shuffle`: each block's own numbers in another order;
            `duplicate`: another one of the request's own blocks in the place of those that are hit.
        onset: Tokens generated before it, a verify step more or less; 0 and 1 are right after the prompt. Unit: tokens.
        layers: Whose layers: the `target`'s, the `draft`'s, or `both`.
        blocks: Share of the request's blocks that are hit, at least one.
        values: Share of the numbers in them that are overwritten.
        seed: Seed of all choices and of the noise.
        id: Name of the order. Orders of the same name are one order; without a name all equal ones are.
        times: Requests that one order hits.
    """

    kind: Literal["noise", "zeros", "splice", "shuffle", "duplicate"]
    onset: int = 0
    layers: Literal["target", "draft", "both"] = "target"
    blocks: float = 1.0
    values: float = 1.0
    seed: int = 0
    id: str = ""
    times: int = 1

    def __post_init__(self) -> None:
        if self.onset < 0 or self.times < 1:
            raise ValueError("onset must not be negative, times must be positive")
        if not (0 < self.blocks <= 1 and 0 < self.values <= 1):
            raise ValueError("blocks and values are shares, above 0 and at most 1")

    @property
    def order(self) -> str:
        """What counts as the same order."""
        return self.id or repr(self)


class Injection(msgspec.Struct, frozen=True):
    """
    One fault as it was carried out.

    Args:
        request: The request's id in the engine.
        plan: What was asked.
        token: Tokens generated when it was done. Unit: tokens.
        layers: Layers hit.
        blocks: Block ids hit.
        of_blocks: Blocks that hold rows of the request.
        donor: Request whose rows were spliced in; empty for the other kinds.
    """

    request: str
    plan: FaultPlan
    token: int
    layers: int
    blocks: tuple[int, ...]
    of_blocks: int
    donor: str = ""


def plan_of(extra_args: Mapping[str, Any] | None) -> FaultPlan | None:
    """
    What a request asks for in its extra arguments, or None.

    Raises:
        ValueError: It asks for something that is not understood; says what.
    """
    if not extra_args or KEY not in extra_args:
        return None
    settings = {"kind": extra_args[KEY]}
    settings |= {
        name.removeprefix(f"{KEY}_"): value for name, value in extra_args.items() if name.startswith(f"{KEY}_")
    }
    try:
        return msgspec.convert(settings, FaultPlan, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def install(environ: Mapping[str, str] = os.environ) -> bool:
    """
    Have the model runner of this process carry out the faults that requests ask for. May be called again.

    Args:
        environ: The process's environment.

    Returns:
        Whether the switch is set.
    """
    if environ.get(SWITCH) != "1":
        return False
    _log.warning("%s (%s=1). Never set it where answers matter.", ACTIVE, SWITCH)
    patches = Patches(lambda reason: _log.error("guard faults: REFUSED: %s; no fault will be carried out", reason))
    patches.replace("faults", _HOOK, lambda _, original: hooked(original))
    patches.install()
    return True


def hooked(original: Any) -> Any:
    """The model runner's update of its requests, followed by the faults that are due."""

    def update_states(self: Any, scheduler_output: Any) -> Any:
        result = original(self, scheduler_output)
        if not hasattr(self, _INJECTOR):
            setattr(self, _INJECTOR, Injector(self))
        getattr(self, _INJECTOR).step()
        return result

    return update_states


class Injector:
    """
    Carries out faults on one model runner.

    Args:
        runner: vLLM's model runner.
    """

    def __init__(self, runner: Any) -> None:
        self.injections: list[Injection] = []
        self._runner = runner
        self._hit: dict[str, set[str]] = {}
        self._given_up: set[str] = set()
        self._blocks: dict[str, list[list[int]]] = {}
        self._last: tuple[str, list[list[int]]] | None = None

    def step(self) -> None:
        """Look at all requests; nothing that goes wrong here may end the engine."""
        self._follow()
        for request, state in self._runner.requests.items():
            if request in self._given_up:
                continue
            try:
                self._look_at(request, state)
            except Exception:
                self._given_up.add(request)
                _log.exception("guard fault failed, request %s", request)

    def _follow(self) -> None:
        """Remember which blocks each request has, and had when it ended."""
        running = self._runner.requests
        for request in [request for request in self._blocks if request not in running]:
            self._last = (request, self._blocks.pop(request))
            self._given_up.discard(request)
        for request, state in running.items():
            self._blocks[request] = [list(blocks) for blocks in state.block_ids]

    def _look_at(self, request: str, state: Any) -> None:
        parameters = state.sampling_params
        try:
            plan = plan_of(parameters.extra_args if parameters is not None else None)
        except ValueError as error:
            self._given_up.add(request)
            _log.error("guard fault refused, request %s: %s", request, error)
            return
        if plan is None:
            self._given_up.add(request)
            return
        token = state.num_computed_tokens - state.num_prompt_tokens + 1
        if token < max(plan.onset, 1):
            return
        hit = self._hit.setdefault(plan.order, set())
        if request in hit or len(hit) >= plan.times:
            self._given_up.add(request)
            _log.warning("guard fault: order %r is used up, request %s is left alone", plan.order, request)
            return
        injection = self._carry_out(request, state, plan, token)
        if injection is not None:
            hit.add(request)
            self._given_up.add(request)
            self.injections.append(injection)
            _log.warning("%s%s", DONE, json.dumps(msgspec.to_builtins(injection)))

    def _carry_out(self, request: str, state: Any, plan: FaultPlan, token: int) -> Injection | None:
        import torch  # noqa: PLC0415 - only in the worker

        donor = ""
        donor_blocks: list[list[int]] = []
        if plan.kind == "splice":
            found = self._donor(request)
            if found is None:  # waits for one
                return None
            donor, donor_blocks = found
        generator = torch.Generator().manual_seed(plan.seed)
        num_layers = used = 0
        hit: list[int] = []
        for number, group in enumerate(self._runner.kv_cache_config.kv_cache_groups):
            caches = self._caches(group.layer_names, plan.layers)
            if not caches:
                continue
            rows = group.kv_cache_spec.block_size
            held = list(state.block_ids[number])[: -(-state.num_computed_tokens // rows)]
            chosen = choose(held, plan.blocks, generator)
            rest = donor_blocks[number] if donor_blocks else []
            if plan.kind == "duplicate":
                # Another one than those that are hit, where there is one: a block in its own place is no fault.
                others = [block for block in held if block not in chosen] or held
                rest = [others[int(torch.randint(len(others), (1,), generator=generator))]]
            sources = [rest[i] for i in torch.randperm(len(rest), generator=generator).tolist()]
            for cache in caches:
                spoil(block_views(cache, self._runner.kv_cache_config.num_blocks), chosen, plan, generator, sources)
            num_layers, used = num_layers + len(caches), used + len(held)
            hit += chosen
        if not num_layers:
            self._given_up.add(request)
            _log.error("guard fault refused, request %s: there are no layers of the %s", request, plan.layers)
            return None
        return Injection(request, plan, token, num_layers, tuple(hit), used, donor)

    def _caches(self, names: Sequence[str], layers: str) -> list[torch.Tensor]:
        drafter = getattr(self._runner, "drafter", None)
        drafts = getattr(drafter, "_draft_attn_layer_names", ())
        context = self._runner.compilation_config.static_forward_context
        return [context[name].kv_cache for name in names if layers == "both" or (layers == "draft") == (name in drafts)]

    def _donor(self, victim: str) -> tuple[str, list[list[int]]] | None:
        """Another request and the blocks that are its alone: one that runs, else the one that ended last."""
        others = [(request, blocks) for request, blocks in self._blocks.items() if request != victim]
        others.sort(key=lambda other: -len(other[1][0]))
        for request, blocks in [*others, *([self._last] if self._last else [])]:
            taken = [owned for name, owned in self._blocks.items() if name != request]
            free = [
                [block for block in group if not any(block in owned[number] for owned in taken)]
                for number, group in enumerate(blocks)
            ]
            if all(free):
                return request, free
        return None


def choose(blocks: Sequence[int], share: float, generator: torch.Generator) -> list[int]:
    """
    A share of some blocks, in their order.

    Args:
        blocks: Block ids.
        share: In (0, 1]; at least one block is chosen.
        generator: Decides which.
    """
    import torch  # noqa: PLC0415 - only in the worker

    if not blocks:
        return []
    number = max(round(share * len(blocks)), 1)
    return [blocks[i] for i in sorted(torch.randperm(len(blocks), generator=generator)[:number].tolist())]


def block_views(cache: torch.Tensor, num_blocks: int) -> torch.Tensor:
    """
    A layer's cache with its blocks first.

    Args:
        cache: Shape: [num_blocks, ...], or [2, num_blocks, ...] where keys and values are apart.
        num_blocks: Blocks of the cache.

    Returns:
        A view. Shape: [num_blocks, ...].

    Raises:
        ValueError: The shape is another one.
    """
    for dimension in (0, 1):
        if cache.shape[dimension] == num_blocks:
            return cache.movedim(dimension, 0)
    raise ValueError(f"a cache of shape {tuple(cache.shape)} does not hold {num_blocks} blocks")


def spoil(
    cache: torch.Tensor, blocks: Sequence[int], plan: FaultPlan, generator: torch.Generator, sources: Sequence[int]
) -> None:
    """
    Overwrite blocks of one layer in place.

    Args:
        cache: Shape: [num_blocks, ...].
        blocks: Block ids to hit.
        plan: Kind, and share of the numbers.
        generator: Source of the noise and of all choices.
        sources: Blocks to copy from, for `splice` and `duplicate`; used in turn.
    """
    import torch  # noqa: PLC0415 - only in the worker

    copies = [cache[block].clone() for block in sources]
    for place, block in enumerate(blocks):
        old = cache[block]
        if plan.kind == "noise":
            spread, mean = old.float().std(), old.float().mean()
            new = (torch.randn(old.shape, generator=generator).to(old.device) * spread + mean).to(old.dtype)
        elif plan.kind == "zeros":
            new = torch.zeros_like(old)
        elif plan.kind in ("splice", "duplicate"):
            new = copies[place % len(copies)]
        else:
            order = torch.randperm(old.numel(), generator=generator).to(old.device)
            new = old.flatten()[order].reshape(old.shape)
        if plan.values < 1:
            hit = (torch.rand(old.shape, generator=generator) < plan.values).to(old.device)
            new = torch.where(hit, new, old)
        cache[block] = new
