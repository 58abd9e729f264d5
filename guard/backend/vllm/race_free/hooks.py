"""Puts the rules around the connector that vLLM is configured with."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

from guard.backend.vllm.patching import Maker, Patches
from guard.backend.vllm.race_free import lineage
from guard.backend.vllm.race_free.connector import wrap
from guard.backend.vllm.releases import Hook

_log = logging.getLogger("vllm.plugins.guard")
#: Connectors that cannot have the rules around them: their parts share notices.
REFUSED = frozenset({"MultiConnector"})


class Wrapping:
    """The replacement for vLLM's `KVConnectorFactory.get_connector_class`."""

    def __init__(self) -> None:
        self._refused = False

    def connector_class(self, original: Any) -> Any:
        """The configured class, with the rules around it."""
        function = original.__func__

        @functools.wraps(function)
        def get_connector_class(cls: Any, kv_transfer_config: Any) -> Any:
            found = function(cls, kv_transfer_config)
            if kv_transfer_config.kv_connector in REFUSED and not self._refused:
                self._refused = True
                _log.error(
                    "guard: REFUSED to make %s race-free: its parts share notices. Configure one connector alone.",
                    kv_transfer_config.kv_connector,
                )
            # Once refused, its parts come this way too, and stay as they are.
            return found if self._refused else wrap(found)

        return classmethod(get_connector_class)


def plan(hooks: Mapping[str, Hook], refused: Callable[[str], None]) -> Patches:
    """
    Plan the replacements.

    Args:
        hooks: The release's table.
        refused: Told why when a hook turns out not to be as expected after all.
    """
    patches, wrapping = Patches(refused), Wrapping()
    makers: dict[str, Maker] = {
        "factory.connector_class": lambda _module, original: wrapping.connector_class(original),
        "pool.publish": lineage.cache_full_blocks,
        "pool.allocate": lineage.get_new_blocks,
        "manager.lookup": lineage.get_computed_blocks,
    }
    for name, hook in hooks.items():
        if hook.patched:
            patches.replace(name, hook, makers[name])
    return patches
