"""
The `guard` command. Imports are made where a command needs them, so that each starts fast.

Exit codes: 0 good, 1 the thing checked is not good, 2 the command could not be carried out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from guard import __version__
from guard.errors import ConfigError, GuardError

EXIT_GOOD = 0
EXIT_FAILED = 1
EXIT_ERROR = 2


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command.

    Args:
        argv: Arguments without the program's name; the process's own if None.

    Returns:
        Exit code.
    """
    args = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = args.command
    try:
        return command(args)
    except GuardError as error:
        print(f"guard: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has left (`guard ... | head`).
        sys.stderr.close()
        return EXIT_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="guard", description="Output-quality guard for LLM serving.")
    parser.add_argument("--version", action="version", version=f"specdec-guard {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(commands.add_parser("serve", help="run the guard in front of your backends"))
    _add_demo(commands.add_parser("demo", help="watch a real model go wrong and be rescued"))
    _add_policy(commands.add_parser("policy", help="check or explain policies"))
    return parser


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, help="configuration file; the options below override it")
    parser.add_argument("--upstream", action="append", default=[], metavar="URL", help="a backend; repeatable")
    parser.add_argument("--policy", help="policy file, or the name of a shipped one")
    parser.add_argument("--host", help="address of the client port (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="client port (default 8000)")
    parser.add_argument("--admin-port", type=int, help="admin port (default 8001)")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    parser.add_argument(
        "--backend",
        choices=("embedded",),
        help="start a small llama.cpp backend with speculative decoding on this machine and guard it",
    )
    parser.set_defaults(command=_serve)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="stop after the story instead of serving on")
    parser.add_argument("--json", action="store_true", help="print the outcome as one JSON object")
    parser.add_argument("--policy", default="demo", help="policy file, or the name of a shipped one")
    parser.set_defaults(command=_demo)


def _add_policy(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="are these policies right?")
    check.add_argument("policies", nargs="+", help="policy files, or names of shipped ones")
    check.set_defaults(command=_policy_check)
    explain = commands.add_parser("explain", help="a policy in plain words")
    explain.add_argument("policy", help="policy file, or the name of a shipped one")
    explain.set_defaults(command=_policy_explain)


def _serve(args: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415

    import uvloop  # noqa: PLC0415

    from guard.lab.serve import configured, serve_command  # noqa: PLC0415

    config = configured(args)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_command(config, embedded=args.backend == "embedded"))
    return EXIT_GOOD


def _demo(args: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415

    from guard.lab.demo import run_demo  # noqa: PLC0415

    with asyncio.Runner() as runner:
        ok = runner.run(run_demo(policy=args.policy, once=args.once, as_json=args.json))
    return EXIT_GOOD if ok else EXIT_FAILED


def _policy_check(args: argparse.Namespace) -> int:
    from guard.shipped import find_policy  # noqa: PLC0415

    code = EXIT_GOOD
    for name in args.policies:
        try:
            policy = find_policy(name)
        except ConfigError as error:
            print(error, file=sys.stderr)
            code = EXIT_FAILED
        else:
            print(f"{name}: good ({policy.name}, {len(policy.rules)} rules)")
    return code


def _policy_explain(args: argparse.Namespace) -> int:
    from guard.policy.explain import explain  # noqa: PLC0415
    from guard.shipped import find_policy  # noqa: PLC0415

    print(explain(find_policy(args.policy)))
    return EXIT_GOOD


if __name__ == "__main__":
    raise SystemExit(main())
