"""The servers and engines that tests, demos and measurements use, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from guard.backend.testbed.drafts import DEFAULT_DRAFT, ensure_draft
from guard.backend.testbed.eagle import ensure_eagle
from guard.backend.testbed.models import ensure_target
from guard.backend.testbed.repair import REPAIR_VARIABLE
from guard.backend.testbed.server import ServerOptions
from guard.backend.testbed.tiny import ensure_tiny
from guard.lab.progress import Progress

#: Recommended draft depth of all of them. Unit: tokens.
DEPTH = 3
#: Switch of `guard.backend.vllm.faults`.
FAULTS_VARIABLE = "GUARD_VLLM_FAULTS"
#: Switch of `guard.backend.vllm.race_free`.
RACE_FREE_VARIABLE = "GUARD_VLLM_RACE_FREE"

#: n-gram drafting: what follows the last two or three tokens where they stood before.
NGRAM: Mapping[str, Any] = MappingProxyType({"method": "ngram", "prompt_lookup_max": 3, "prompt_lookup_min": 2})


def smollm2(
    speculation: str = DEFAULT_DRAFT,
    *,
    depth: int = DEPTH,
    faults: bool = False,
    repair: bool = True,
    race_free: bool = False,
    progress: Progress | None = None,
) -> ServerOptions:
    """
    SmolLM2-135M.

    Args:
        speculation: Name of a draft in `draft_models/`, `ngram`, `eagle`, or empty for none.
        depth: Draft depth. Unit: tokens.
        faults: Let requests ask for faults in their cache.
        repair: Repair sampling; see `repair.py`.
        race_free: Let requests withdraw their prompts from the prefix cache.
        progress: Where the making of models is reported.
    """
    target = ensure_target(progress=progress)
    speculative: dict[str, Any] | None = None
    if speculation == "ngram":
        speculative = {**NGRAM, "num_speculative_tokens": depth}
    elif speculation == "eagle":
        speculative = {"method": "eagle", "model": str(ensure_eagle(progress)), "num_speculative_tokens": depth}
    elif speculation:
        draft = ensure_draft(speculation, progress)
        speculative = {"method": "draft_model", "model": str(draft), "num_speculative_tokens": depth}
    env = _environment(faults=faults, repair=repair, race_free=race_free)
    return ServerOptions(model=target, name="smollm2-135m", speculative=speculative, env=env)


def tiny(speculation: str = "eagle", *, depth: int = DEPTH, faults: bool = False, repair: bool = True) -> ServerOptions:
    """
    The tiny random model: for tests that need real steps but no sense.

    Args:
        speculation: `eagle`, `draft`, `ngram`, or empty for none.
        depth: Draft depth. Unit: tokens.
        faults: Let requests ask for faults in their cache.
        repair: Repair sampling; see `repair.py`.
    """
    models = ensure_tiny()
    speculative: dict[str, Any] | None = {
        "eagle": {"method": "eagle", "model": str(models.eagle)},
        "draft": {"method": "draft_model", "model": str(models.draft)},
        "ngram": dict(NGRAM),
        "": None,
    }[speculation]
    if speculative is not None:
        speculative["num_speculative_tokens"] = depth
    return ServerOptions(
        model=models.target, name="tiny", speculative=speculative, env=_environment(faults=faults, repair=repair)
    )


def _environment(*, faults: bool, repair: bool, race_free: bool = False) -> dict[str, str]:
    switches = {FAULTS_VARIABLE: faults, REPAIR_VARIABLE: repair, RACE_FREE_VARIABLE: race_free}
    return {name: "1" for name, on in switches.items() if on}


#: Servers by the name that commands and tests use; made when called.
CONFIGURATIONS: Mapping[str, Callable[[], ServerOptions]] = MappingProxyType(
    {
        "smollm2-draft": lambda: smollm2(faults=True),
        "smollm2-ngram": lambda: smollm2("ngram"),
        "smollm2-eagle": lambda: smollm2("eagle"),
        "smollm2-plain": lambda: smollm2(""),
        "tiny-eagle": lambda: tiny("eagle", faults=True),
        "tiny-draft": lambda: tiny("draft", faults=True),
        "tiny-ngram": lambda: tiny("ngram"),
    }
)
