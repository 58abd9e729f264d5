"""A fault of LayerSplit in one rank ends that rank's process, and with it the engine."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from typing import Any, Final

#: Exit status of such a worker.
STATUS: Final = 70

_log = logging.getLogger("vllm.plugins.guard")


def fatal(step: Callable[..., Any]) -> Callable[..., Any]:
    """
    Let nothing out of a part of a step: what is raised there ends the process.

    vLLM reads the answer of one rank only. An exception in another one is seen by nobody, while the first waits in
    the next collective until that gives up, half an hour later. A dead process is seen at once.

    Args:
        step: Called between two collectives of all ranks.
    """

    @functools.wraps(step)
    def guarded(*arguments: Any, **named: Any) -> Any:
        try:
            return step(*arguments, **named)
        except Exception as error:
            _log.critical("guard: LayerSplit ends this worker: %s", error, exc_info=True)
            logging.shutdown()
            os._exit(STATUS)

    return guarded
