"""
The child process that is the embedded backend: one llama.cpp server on a loopback port.

It prints one JSON line when it listens, takes JSON lines on standard input, and ends when that
input ends, so that it cannot outlive the process that started it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

from guard.lab.parent import die_with_parent

if TYPE_CHECKING:
    import xllamacpp


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the child's command line."""
    parser = argparse.ArgumentParser(prog="python -m guard.lab.llama_process", description=__doc__)
    parser.add_argument("--model", required=True, help="target model file")
    parser.add_argument("--draft", default="", help="draft model file; none: no speculation")
    parser.add_argument("--alias", default="", help="model name that clients see")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--n-parallel", type=int, default=1, help="slots")
    parser.add_argument("--ctx", type=int, default=4096, help="context of each slot, in tokens")
    parser.add_argument("--k", type=int, default=3, help="draft depth, in tokens")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--slot-save-path", default="", help="folder for saved slots; none: no saving")
    parser.add_argument("--ngram", default="", help="n-gram speculation instead of a draft model")
    parser.add_argument("--allow-faults", action="store_true", help="take orders to corrupt the KV cache")
    return parser.parse_args(arguments)


def server_params(options: argparse.Namespace) -> xllamacpp.CommonParams:
    """Translate the command line into llama.cpp's parameters."""
    import xllamacpp  # noqa: PLC0415 - native code that is only wanted in this process

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    if options.alias:
        params.model_alias = {options.alias}
    params.port = options.port
    params.n_parallel = options.n_parallel
    params.n_ctx = options.ctx * options.n_parallel
    draft = params.speculative.draft
    for cpu in (params.cpuparams, params.cpuparams_batch, draft.cpuparams, draft.cpuparams_batch):
        cpu.n_threads = options.threads
        # Threads that spin while idle would take the core from the proxy and the client.
        cpu.poll = 0
    params.endpoint_slots = True
    params.endpoint_metrics = True
    params.ui = False
    # Prompts kept in memory would bring a corrupted prefix back after its slot was erased.
    params.cache_ram_mib = 0
    if options.slot_save_path:
        params.slot_save_path = os.path.join(options.slot_save_path, "")
    types = xllamacpp.common_speculative_type
    if options.draft:
        draft.mparams.path = options.draft
        draft.n_max = options.k
        params.speculative.types = [types.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
    elif options.ngram:
        params.speculative.types = [getattr(types, f"COMMON_SPECULATIVE_TYPE_NGRAM_{options.ngram.upper()}")]
    return params


def serve(options: argparse.Namespace, orders: IO[bytes], answers: IO[str]) -> None:
    """
    Start the server and do what the lines on `orders` say until they end.

    Args:
        options: The command line.
        orders: JSON objects, one a line; only fault orders exist, and only with --allow-faults.
        answers: Where the ready line and one JSON object for each order go.
    """
    import xllamacpp  # noqa: PLC0415 - see server_params

    server = xllamacpp.Server(server_params(options))
    say({"ready": True, "url": server.listening_address, "pid": os.getpid()}, answers)
    for line in orders:
        say(obey(line, options), answers)


def obey(line: bytes, options: argparse.Namespace) -> dict[str, Any]:
    """Carry out one order and say how it went; never raises, since the server must live on."""
    if not options.allow_faults:
        return {"error": "this backend was started without --allow-faults"}
    from guard.lab.kv_memory import carry_out  # noqa: PLC0415 - only for faults

    try:
        return carry_out(json.loads(line))
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def say(message: dict[str, Any], answers: IO[str]) -> None:
    """Write one JSON line."""
    print(json.dumps(message), file=answers, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the child."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    die_with_parent()
    # Ctrl-C goes to the whole foreground group; the parent decides when its backend ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(options, sys.stdin.buffer, sys.stdout)
    # llama.cpp's own shutdown can wait for running requests; nothing here needs it.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
