"""How many files, and so connections, the process may have open."""

from __future__ import annotations

import contextlib
import resource

#: What is open beside the two connections of a request: kept ones, questions to backends, operators. Unit: files.
SPARE = 512


def room_for(requests: int) -> str:
    """
    Raise the soft limit as far as so many requests need it, and the hard one allows.

    A shell's usual 1024 are used up by some five hundred streams; what connects then is closed by the loop without an
    answer, and without a word in the log.

    Args:
        requests: Open at once.

    Returns:
        What an operator should know when it is not enough; empty when it is.
    """
    wanted = 2 * requests + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not _enough(soft, wanted):
        most = wanted if _enough(hard, wanted) else hard
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if _enough(soft, wanted):
        return ""
    return (
        f"the system allows {soft} open files, too few for limits.max_in_flight, which is {requests} and wants "
        f"{wanted}: raise `ulimit -n` (LimitNOFILE=), or lower it"
    )


def _enough(limit: int, wanted: int) -> bool:
    return limit == resource.RLIM_INFINITY or limit >= wanted
