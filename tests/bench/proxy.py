"""
What the guard costs beside proxies that only route: CPU, time, memory, and whether every stream arrives whole.

Run: `python tests/bench/proxy.py [--quick] [--json] [--only NAME,...] [--build python] [--write]`. --write puts the
figures into README.md beside this file. Peers are installed, and the guard is compiled, on first use (proxy_peers.py).
The backend and the client run on one core, the proxy that is measured alone on another. In each round every target has
every load once, in an order drawn anew, so that what else the machine does falls on all alike; ratios and differences
are taken within a round, and their median is told. Exit code 1 if one stream of the guard was not what the backend
said.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgspec

from guard.errors import GuardError, SetupError
from guard.lab.ports import free_port
from tests.bench.proxy_load import Load
from tests.bench.proxy_peers import KEY, READY, ROOT, TARGETS, Place, clean_environment, compiled
from tests.bench.proxy_report import Row, closing_line, readme, summary
from tests.bench.proxy_script import DRAFTED

HERE = Path(__file__).resolve().parent
#: How long a proxy may take to start on a busy machine. Unit: seconds.
START = 120.0


@dataclass(frozen=True)
class Scenario:
    """
    One load.

    Args:
        streams, turns, chunks, delay, ramp: See proxy_load.Load.
        slow: The same for a proxy that cannot carry that much: chunks and delay.
        only: Targets it is for; empty for all.
        rounds: At most so many rounds of it.
    """

    streams: int
    turns: int
    chunks: int
    delay: int
    ramp: float = 0.0
    slow: tuple[int, int] = (0, 0)
    only: tuple[str, ...] = ()
    rounds: int = 99

    def load(self, name: str, shared: str, target: Target) -> Load | None:
        """For one target; None if it is not for it."""
        if self.only and name not in self.only:
            return None
        chunks, delay, turns, ramp = self.chunks, self.delay, self.turns, self.ramp
        if name in SLOW:
            if not self.slow[0]:
                return None
            (chunks, delay), turns, ramp = self.slow, min(turns, 20), ramp * 4
        pids = target.pids()
        return Load(
            port=target.port,
            shared=shared,
            key=KEY,
            pids=pids,
            streams=self.streams,
            turns=turns,
            chunks=chunks,
            delay=delay,
            ramp=ramp,
            timeout=20 + 2 * (ramp + turns * chunks * (delay or 3_000) / 1e6),
        )


#: After which --quick begins no further load; the longest takes a minute more. Unit: seconds.
QUICK_BUDGET = 220.0
#: Proxies that only a tenth of the load can be put on; else nothing but their queue would be measured.
SLOW = {"litellm"}
OURS = ("direct", "guard", "aiohttp")
SCENARIOS = {
    "ttft": Scenario(1, 60, 2, 1_000, slow=(2, 1_000)),
    "c1": Scenario(1, 1, 400, 3_000),
    "c100": Scenario(100, 1, 100, 20_000, 0.4, slow=(12, 400_000)),
    "c400": Scenario(400, 1, 60, 25_000, 0.5),
    "saturated": Scenario(128, 1, 300, 0),
    "m1": Scenario(1, 1, 20, 20_000, only=("guard",), rounds=1),
    "m100": Scenario(100, 1, 20, 50_000, 0.2, only=("guard",), rounds=1),
    "m1000": Scenario(1000, 1, 16, 250_000, 2.0, only=OURS, rounds=2),
    "m5000": Scenario(5000, 1, 12, 2_500_000, 20.0, only=OURS, rounds=2),
}
QUICK = {
    "ttft": Scenario(1, 40, 2, 1_000, slow=(2, 1_000)),
    "c100": Scenario(100, 1, 70, 20_000, 0.4, slow=(8, 400_000)),
    "saturated": Scenario(128, 1, 150, 0, only=("guard", "guard-python", "aiohttp", "sglang-router"), rounds=2),
    "m1": Scenario(1, 1, 20, 20_000, only=("guard",), rounds=1),
    "m100": Scenario(100, 1, 20, 50_000, 0.2, only=("guard",), rounds=1),
    "m1000": Scenario(1000, 1, 10, 250_000, 1.5, only=("guard",), rounds=1),
    "m5000": Scenario(5000, 1, 12, 2_500_000, 20.0, only=("guard",), rounds=1),
}


@dataclass
class Target:
    """A server under test."""

    port: int
    process: subprocess.Popen[bytes]

    def pids(self) -> list[int]:
        """It and its descendants."""
        found = [self.process.pid]
        for pid in found:
            for path in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    found += map(int, path.read_text().split())
        return found


@dataclass
class Bench:
    """Everything that runs, and what was measured."""

    folder: Path
    targets: dict[str, Target] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    left_out: int = 0
    #: Where the guard is.
    checkout: Path = ROOT

    @property
    def shared(self) -> str:
        return str(self.folder / "shared")

    def start(self, names: list[str]) -> None:
        """Start the backend, then all proxies at once, and wait until each can be used."""
        port = free_port()
        command = [sys.executable, str(HERE / "proxy_backend.py"), str(port), self.shared]
        self.targets["direct"] = Target(port, self._spawn("direct", command, LOADER))
        self._ready("direct")
        for name in names:
            place = Place(self.folder / name, free_port(), port, DRAFTED, self.checkout)
            place.folder.mkdir()
            try:
                command = TARGETS[name](place)
            except GuardError as error:
                self._drop(name, str(error))
                continue
            if shutil.which(command[0]):
                self.targets[name] = Target(place.port, self._spawn(name, command, MEASURED))
            else:
                self._drop(name, f"{command[0]} is not installed; see deploy/servers.sh")
        for name in list(self.targets):
            self._ready(name)

    def _spawn(self, name: str, command: list[str], core: int) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            environment = clean_environment()
            return subprocess.Popen(on_core(core, command), stdout=log, stderr=log, env=environment, cwd=self.folder)

    def _ready(self, name: str) -> None:
        target = self.targets[name]
        url = f"http://127.0.0.1:{target.port}{READY.get(name, '/health')}"
        deadline = time.monotonic() + START
        while not answers(url):
            if time.monotonic() > deadline or target.process.poll() is not None:
                return self._drop(name, "it did not start: " + (self.folder / f"{name}.log").read_text()[-300:])
            time.sleep(0.1)
        if name != "direct":
            warm = Load(
                port=target.port, shared=self.shared, key=KEY, pids=[], streams=4, turns=4, chunks=8, delay=1000
            )
            result = run_load(warm)
            if result["errors"]:
                self._drop(name, f"it does not hand streams on: {result['problems']}")
        return None

    def _drop(self, name: str, why: str) -> None:
        print(f"proxy.py: without {name}: {why}", file=sys.stderr, flush=True)
        self.absent[name] = why
        target = self.targets.pop(name, None)
        if target is not None:
            stop(target.process)
        if name in ("direct", "guard"):
            raise SystemExit(2)

    def run(self, scenarios: dict[str, Scenario], rounds: int, seed: int, until: float) -> None:
        """All rounds; no load is begun after `until` on the monotonic clock, for a machine that is too busy."""
        dice = random.Random(seed)
        for turn in range(rounds):
            for title, scenario in scenarios.items():
                if turn >= scenario.rounds:
                    continue
                order = list(self.targets)
                dice.shuffle(order)
                for name in order:
                    load = scenario.load(name, self.shared, self.targets[name])
                    if load is not None and time.monotonic() > until:
                        self.left_out += 1
                    elif load is not None:
                        self._measure(title, name, turn, load)
            print(f"proxy.py: round {turn + 1} of {rounds} done", file=sys.stderr, flush=True)

    def _measure(self, title: str, name: str, turn: int, load: Load) -> None:
        figures = run_load(load)
        self.rows.append(Row(title, name, turn, figures))
        if figures["errors"]:
            print(f"proxy.py: {name} {title}: {figures['problems']}", file=sys.stderr, flush=True)

    def stop(self) -> None:
        for target in self.targets.values():
            stop(target.process)


#: Cores: the backend and the client, and the proxy under test. The same where there is only one.
CORES = sorted(os.sched_getaffinity(0))
LOADER, MEASURED = CORES[0], CORES[-1]


def on_core(core: int, command: list[str]) -> list[str]:
    return ["taskset", "--cpu-list", str(core), *command]


def run_load(load: Load) -> dict[str, Any]:
    """One load, in a process of its own."""
    done = subprocess.run(
        on_core(LOADER, [sys.executable, str(HERE / "proxy_load.py")]),
        input=msgspec.json.encode(load),
        capture_output=True,
        timeout=load.timeout + 60,
        check=False,
    )
    if done.returncode:
        return {"errors": 1, "problems": {done.stderr.decode()[-300:]: 1}}
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def many_files() -> Iterator[None]:
    """5,000 streams need twice as many sockets in a proxy."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 65_536)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Reads a list of names, each of which must be known."""

    def names(given: str) -> list[str]:
        found = given.split(",")
        for name in found:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return found

    return names


def parsed(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The guard beside proxies that only route.")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds, within five minutes")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    peers = list(TARGETS)[1:]
    parser.add_argument("--only", type=of(peers), default=peers, help="compare with these peers: " + ", ".join(peers))
    parser.add_argument("--loads", type=of(SCENARIOS), help="only these loads: " + ", ".join(SCENARIOS))
    parser.add_argument("--rounds", type=int, help="default 5, or 3 with --quick")
    parser.add_argument("--seed", type=int, default=1, help="of the order of targets")
    builds = "the guard as the image has it (default), beside it in Python; or in Python alone"
    parser.add_argument("--build", choices=("compiled", "python"), default="compiled", help=builds)
    parser.add_argument("--write", action="store_true", help="put the figures into tests/bench/README.md")
    return parser.parse_args(argv)


def guard_build(build: str, only: list[str]) -> tuple[Path, list[str]]:
    """Where the guard is that is measured, and what it is compared with; in Python where it cannot be compiled."""
    if build == "compiled":
        try:
            return compiled(), only
        except SetupError as error:
            print(f"proxy.py: the guard is measured in Python: {error}", file=sys.stderr, flush=True)
    return ROOT, [name for name in only if name != "guard-python"]


def main(argv: list[str] | None = None) -> int:
    args = parsed(argv)
    scenarios = QUICK if args.quick else SCENARIOS
    if args.loads:
        scenarios = {title: scenarios[title] for title in args.loads}
    rounds = args.rounds or (3 if args.quick else 5)
    checkout, only = guard_build(args.build, args.only)
    begun = time.monotonic()
    with many_files(), tempfile.TemporaryDirectory(prefix="guard-bench-") as folder:
        bench = Bench(Path(folder), checkout=checkout)
        try:
            bench.start(["guard", *only])
            bench.run(scenarios, rounds, args.seed, begun + (QUICK_BUDGET if args.quick else math.inf))
        finally:
            bench.stop()
    print(summary(bench.rows, bench.absent))
    print("guard: " + ("in Python" if checkout == ROOT else "compiled"))
    print(f"{time.monotonic() - begun:.0f} s, {rounds} rounds, seed {args.seed}")
    if bench.left_out:
        print(f"{bench.left_out} loads were left out: the machine is too busy to end in time")
    if args.write:
        page = readme(bench.rows, bench.absent, rounds, quick=args.quick, compiled=checkout != ROOT)
        (HERE / "README.md").write_text(page)
    line = closing_line(bench.rows)
    if args.json:
        print(json.dumps(line))
    return 1 if line["integrity_errors"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
