"""
The `guard` command. Imports are made where a command needs them, so that each starts fast.

Exit codes: 0 good, 1 the thing checked is not good, 2 the command could not be carried out. `guard serve` ends with 0
when every stream in flight ended by itself, with 1 when some had to be cut.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from guard import __version__
from guard.compiled import build_name
from guard.errors import GuardError

EXIT_GOOD = 0
EXIT_FAILED = 1
EXIT_ERROR = 2
#: What `guard serve` may take to end once everything in it is closed. Unit: seconds.
LEAVE = 3.0


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command.

    Args:
        argv: Arguments without the program's name; the process's own if None.

    Returns:
        Exit code.
    """
    _fill_standard_files()
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:2] == ["layersplit", "plan"]:
        return _layersplit_plan(words[2:])
    args = _parser().parse_args(words)
    args.argv = words
    command: Callable[[argparse.Namespace], int] = args.command
    try:
        code = command(args)
        print(end="", flush=True)  # what is only written when the process ends cannot be told of any more
    except GuardError as error:
        print(f"guard: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has left (`guard ... | head`).
        _write_no_more()
        return EXIT_ERROR
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        # A file that was named to us: a folder that may not be looked into, a name too long, a disk that is full.
        # Without a name it is the one that our output goes to.
        print(f"guard: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        if error.filename is None:
            _write_no_more()
        return EXIT_ERROR
    return code


def _fill_standard_files() -> None:
    """Where one is closed a connection would get its number: libuv ends the process when that is closed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _write_no_more() -> None:
    """Python would write the rest of the output when it ends, fail, and complain of it in its own words."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """One that complains of an unknown option as the command it was given to, with the nearest one there is."""

    def parse_known_args(  # type: ignore[override] # of typeshed's overloads, the one that is used here
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """See argparse; what is not known is an error."""
        known, rest = super().parse_known_args(args, namespace)
        if rest:
            near = difflib.get_close_matches(rest[0].partition("=")[0], self._option_string_actions, n=1)
            self.error(f"unrecognized arguments: {' '.join(rest)}" + (f"; did you mean {near[0]}?" if near else ""))
        return known, rest


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="guard", description="Output-quality guard for LLM serving.")
    parser.add_argument("--version", action="version", version=f"specdec-guard {__version__} ({build_name()})")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(commands.add_parser("serve", help="run the guard in front of your backends"))
    _add_config(commands.add_parser("config", help="check or show the configuration; list its variables"))
    key = commands.add_parser("key", help="make an API key for a client, and the line that lets it in")
    key.add_argument("name", help="who gets it")
    key.set_defaults(command=_key)
    health = commands.add_parser("healthcheck", help="ask a guard on this machine whether it is ready")
    health.add_argument("--config", type=Path, help="its configuration file, for its admin port")
    health.add_argument("--url", help="its admin port (default: as file or variables say, else http://127.0.0.1:8001)")
    health.add_argument(
        "--wait", type=float, default=0.0, metavar="SECONDS", help="ask again until then (default: once)"
    )
    health.set_defaults(command=_healthcheck)
    _add_demo(commands.add_parser("demo", help="watch a real model go wrong and be rescued"))
    _add_policy(commands.add_parser("policy", help="check, explain or test policies"))
    _add_backtest(commands.add_parser("backtest", help="try a policy on labelled streams"))
    _add_calibrate(commands.add_parser("calibrate", help="learn what healthy acceptance looks like here"))
    _add_doctor(commands.add_parser("doctor", help="prove what a live backend can do, and say what is missing"))
    _add_replay(commands.add_parser("replay", help="send a recorded stream through a live guard"))
    split = commands.add_parser("layersplit", help="plan LayerSplit, part of the vLLM plugin")
    split.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "plan", help="when it wins for a model: memory, capacity, throughput"
    )
    _add_bench(commands.add_parser("bench", help="measure what the guard adds to your backend"))
    return parser


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--upstream", required=True, metavar="URL", help="the backend")
    parser.add_argument("--model", default="", help="model name that requests carry")
    parser.add_argument("--policy", default="default", help="policy file, or the name of a shipped one")
    parser.add_argument("--requests", type=int, default=20, metavar="N", help="answers from each side (default 20)")
    parser.add_argument("--streams", type=int, default=1, metavar="N", help="at once (default 1)")
    parser.add_argument("--max-tokens", type=int, default=128, metavar="N", help="of each answer (default 128)")
    parser.add_argument("--prompt", default="Explain how a bicycle stays upright, in a few paragraphs.")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    parser.set_defaults(command=_bench)


def _bench(args: argparse.Namespace) -> int:
    from guard.lab.bench import bench_command  # noqa: PLC0415

    return bench_command(args)


def _add_serve(parser: argparse.ArgumentParser) -> None:
    _add_settings(parser)
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that share the port (default 1)")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)  # what a supervisor adds for each of them
    parser.set_defaults(command=_serve)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, help="configuration file; the options below override it")
    parser.add_argument("--upstream", action="append", default=[], metavar="URL", help="a backend; repeatable")
    policy = "policy file, or the name of a shipped one; repeatable: the first whose match fits a request is taken"
    parser.add_argument("--policy", action="append", help=policy)
    parser.add_argument("--host", help="address of the client port (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="client port (default 8000)")
    parser.add_argument("--admin-host", help="address of the admin port (default 127.0.0.1)")
    parser.add_argument("--admin-port", type=int, help="admin port (default 8001)")
    levels = ("debug", "info", "warning", "error")
    parser.add_argument("--log-level", choices=levels, help="least severe that is logged (default info)")
    parser.add_argument(
        "--backend",
        choices=("embedded",),
        help="start a small llama.cpp backend with speculative decoding on this machine and guard it",
    )


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="stop after the story instead of serving on")
    parser.add_argument("--json", action="store_true", help="print the outcome as one JSON object")
    parser.add_argument("--policy", default="demo", help="policy file, or the name of a shipped one")
    parser.add_argument(
        "--backend", choices=("embedded", "vllm"), default="embedded", help="llama.cpp (default), or an installed vLLM"
    )
    parser.set_defaults(command=_demo)


def _add_config(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="would `guard serve` start with this?")
    show = commands.add_parser("show", help="the settings in force, and where each came from; secrets masked")
    for one in (check, show):
        _add_settings(one)
    show.add_argument("--json", action="store_true", help="one JSON object: setting -> value, origin")
    check.set_defaults(command=_config_check)
    show.set_defaults(command=_config_show)
    env = commands.add_parser("env", help="every setting's environment variable, as a Markdown table")
    env.set_defaults(command=_config_env)


def _add_policy(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="are these policies right?")
    check.add_argument("policies", nargs="+", help="policy files, folders of them, or names of shipped ones")
    check.set_defaults(command=_policy_check)
    explain = commands.add_parser("explain", help="a policy in plain words")
    explain.add_argument("policy", help="policy file, or the name of a shipped one")
    explain.set_defaults(command=_policy_explain)
    test = commands.add_parser("test", help="run the tests that stand beside policies")
    test.add_argument("files", nargs="+", type=Path, metavar="FILE", help="test files, policies, or folders of them")
    test.set_defaults(command=_policy_test)
    schema = commands.add_parser("schema", help="print the JSON Schema of policies, for editors")
    schema.set_defaults(command=_policy_schema)


def _add_backtest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cases", nargs="+", metavar="CASES.jsonl", help="files of cases, .gz too")
    parser.add_argument("--policy", required=True, help="policy file, or the name of a shipped one")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    parser.add_argument(
        "--baseline", metavar="P|PROFILE", help="healthy acceptance probability, or a profile by name or path"
    )
    parser.add_argument("--against", metavar="POLICY", help="say where a second policy decides otherwise")
    parser.add_argument("--html", type=Path, metavar="OUT", help="write a report with plots of every case")
    parser.add_argument("--require", metavar="LIMITS", help="such as recall=0.95,fp=0.03; exit 1 when not met")
    parser.add_argument("--jobs", type=int, help="processes (default: one per core)")
    parser.set_defaults(command=_backtest)


def _add_calibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("traces", nargs="+", metavar="TRACES.jsonl", help="recorded healthy streams, .gz too")
    parser.add_argument("--out", type=Path, required=True, metavar="PROFILE.yaml", help="where the profile goes")
    parser.add_argument("--draft", help="name of the draft (default: from the file's place)")
    parser.add_argument("--engine", help="engine and version (default: what the traces say)")
    parser.set_defaults(command=_calibrate)


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--upstream", required=True, metavar="URL", help="base URL of the backend")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(command=_doctor)


def _add_replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="cases (.jsonl), or one captured stream (.sse)")
    parser.add_argument("--url", help="a guard that runs on this machine, with --listen as its upstream")
    parser.add_argument("--listen", type=int, default=0, metavar="PORT", help="port of the upstream that plays")
    parser.add_argument("--policy", default="default", help="for a guard of its own: policy file or shipped name")
    parser.add_argument("--baseline", metavar="P|PROFILE", help="for a guard of its own: healthy acceptance")
    parser.add_argument("--case", action="append", default=[], metavar="ID", help="only this case; repeatable")
    parser.add_argument("--speed", type=float, default=0.0, metavar="N", help="tokens per second (default: all speed)")
    parser.add_argument("--heal", action="store_true", help="later attempts play only what came before the fault")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each recording")
    parser.set_defaults(command=_replay)


def _serve(args: argparse.Namespace) -> int:
    import gc  # noqa: PLC0415

    gc.disable()  # what is loaded stays: looking through it for garbage is a tenth of the start
    import asyncio  # noqa: PLC0415

    import uvloop  # noqa: PLC0415

    from guard.lab.serve import serving  # noqa: PLC0415

    gc.enable()
    command = serving(args)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            cut = runner.run(command)
            code = EXIT_FAILED if cut else EXIT_GOOD
        except asyncio.CancelledError:
            code = EXIT_FAILED
        leaving = _leave_within(LEAVE, code)
    leaving.cancel()
    return code


def _leave_within(seconds: float, code: int) -> threading.Timer:
    """End the process then, whatever it still waits for: a thread that reads from a file system that hangs."""
    timer = threading.Timer(seconds, os._exit, [code])
    timer.daemon = True
    timer.start()
    return timer


def _config_check(args: argparse.Namespace) -> int:
    from guard.lab.config_command import check_command  # noqa: PLC0415

    return check_command(args)


def _config_show(args: argparse.Namespace) -> int:
    from guard.lab.config_command import show_command  # noqa: PLC0415

    return show_command(args)


def _config_env(_: argparse.Namespace) -> int:
    from guard.config import Config  # noqa: PLC0415
    from guard.environment import table  # noqa: PLC0415

    print(table(Config), end="")
    return EXIT_GOOD


def _key(args: argparse.Namespace) -> int:
    from guard.lab.key_command import key_command  # noqa: PLC0415

    return key_command(args.name)


def _healthcheck(args: argparse.Namespace) -> int:
    from guard.lab.healthcheck import healthcheck_command  # noqa: PLC0415

    return healthcheck_command(args.url, args.wait, args.config)


def _demo(args: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415

    from guard.lab.demo import run_demo  # noqa: PLC0415

    with asyncio.Runner() as runner:
        ok = runner.run(run_demo(policy=args.policy, once=args.once, as_json=args.json, backend=args.backend))
    return EXIT_GOOD if ok else EXIT_FAILED


def _policy_check(args: argparse.Namespace) -> int:
    from guard.lab.policy_check import policy_check_command  # noqa: PLC0415

    return policy_check_command(args.policies)


def _policy_explain(args: argparse.Namespace) -> int:
    from guard.policy.explain import explain  # noqa: PLC0415
    from guard.shipped import find_policy  # noqa: PLC0415

    print(explain(find_policy(args.policy)))
    return EXIT_GOOD


def _policy_test(args: argparse.Namespace) -> int:
    from guard.lab.policy_test import policy_test_command  # noqa: PLC0415

    return policy_test_command(args.files)


def _policy_schema(_: argparse.Namespace) -> int:
    from guard.detect.catalogue import CATALOGUE  # noqa: PLC0415
    from guard.policy.json_schema import schema_text  # noqa: PLC0415

    print(schema_text(CATALOGUE), end="")
    return EXIT_GOOD


def _backtest(args: argparse.Namespace) -> int:
    from guard.lab.backtest import backtest_command  # noqa: PLC0415

    return backtest_command(args)


def _calibrate(args: argparse.Namespace) -> int:
    from guard.lab.calibrate import calibrate_command  # noqa: PLC0415

    return calibrate_command(args)


def _doctor(args: argparse.Namespace) -> int:
    from guard.lab.doctor import doctor_command  # noqa: PLC0415

    return EXIT_GOOD if doctor_command(args.upstream, as_json=args.json) else EXIT_FAILED


def _replay(args: argparse.Namespace) -> int:
    from guard.lab.replay import replay_command  # noqa: PLC0415

    return replay_command(args)


def _layersplit_plan(words: Sequence[str]) -> int:
    # Nothing here imports the backend: the plan is a program of its own, and reads its own arguments.
    program = [sys.executable, "-m", "guard.backend.kv.layer_split_plan", *words]
    return subprocess.run(program, check=False).returncode  # noqa: S603 - our own interpreter and module


if __name__ == "__main__":
    raise SystemExit(main())
