"""`python -m guard.backend.testbed`: make the models, run a server by hand, measure a draft."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Sequence

import msgspec

from guard.backend.testbed.configurations import CONFIGURATIONS
from guard.backend.testbed.drafts import DEFAULT_DRAFT, ensure_draft
from guard.backend.testbed.measure import measure_draft, write_profile
from guard.backend.testbed.models import ensure_target
from guard.backend.testbed.server import ServerOptions, VllmServer
from guard.backend.testbed.tiny import ensure_tiny
from guard.errors import GuardError
from guard.lab.progress import best_progress

#: How long a server that a person started may take: they can see it, and stop it. Unit: seconds.
READY_SECONDS = 1800.0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m guard.backend.testbed", description=__doc__)
    commands = top.add_subparsers(dest="command")
    commands.add_parser("prepare", help="make all models and print where they are (the default)")
    serve = commands.add_parser("serve", help="run a vLLM server until interrupted")
    serve.add_argument("--configuration", choices=sorted(CONFIGURATIONS), default="smollm2-draft")
    serve.add_argument("--port", type=int, default=8000, help="0: any free one")
    serve.add_argument("--no-faults", action="store_true", help="do not let requests corrupt their cache")
    measure = commands.add_parser("measure", help="measure a draft and write its profile")
    measure.add_argument("--draft", default=DEFAULT_DRAFT)
    measure.add_argument("--depths", default="2,3,4", help="draft depths, such as 2,3")
    measure.add_argument("--tokens", type=int, default=128, help="most tokens of each prompt")
    return top


def prepare() -> dict[str, str]:
    """Make all models; their folders by name."""
    with best_progress() as progress:
        target = ensure_target(progress=progress)
        draft = ensure_draft(progress=progress)
        tiny = ensure_tiny()
    return {
        "python": sys.executable,
        "smollm2-135m": str(target),
        DEFAULT_DRAFT: str(draft),
        **{f"tiny-{name}": str(folder) for name, folder in msgspec.structs.asdict(tiny).items()},
    }


async def serve(options: ServerOptions) -> None:
    """
    Run a server until SIGINT or SIGTERM, or until it ends by itself.

    Raises:
        SetupError: It did not start.
    """
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print("starting vLLM; this takes a minute ...", file=sys.stderr, flush=True)
    served = asyncio.create_task(_served(options))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({served, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if served.done():
        await served
        return
    served.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await served


async def _served(options: ServerOptions) -> None:
    async with VllmServer(options) as server:
        print(f"vLLM serves {options.name} on {server.url}, log in {server.log_path}", file=sys.stderr, flush=True)
        await server.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "serve":
            server = CONFIGURATIONS[options.configuration]()
            server = msgspec.structs.replace(server, port=options.port, ready_seconds=READY_SECONDS)
            if options.no_faults:
                env = {name: value for name, value in server.env.items() if "FAULTS" not in name}
                server = msgspec.structs.replace(server, env=env)
            asyncio.run(serve(server))
        elif options.command == "measure":
            depths = [int(depth) for depth in options.depths.split(",")]
            profile = measure_draft(options.draft, depths=depths, tokens=options.tokens)
            print(write_profile(profile))
        else:
            print(json.dumps(prepare(), indent=2))
    except GuardError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
