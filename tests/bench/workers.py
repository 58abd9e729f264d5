"""
How the guard scales over worker processes: chunks a second with one worker and with two, in turn in the same rounds.

Run: `python tests/bench/workers.py [--workers 1,2] [--streams 128] [--rounds 5] [--json]`. The load is that of
proxy.py's "saturated": each stream has one chunk under way, backend and client are the same, and every stream is
held against what was to be said. Nothing is bound to a core: where there are only two, the backend and the client need
much of them, and a second worker can only use what they leave. So beside the rate stands what a whole core of guard
would carry (chunks a second over the cores that its processes used): as long as that stays, N cores carry N times as
much. Exit code 1 if one stream was not what the backend said.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgspec

from guard.lab.ports import free_port
from tests.bench.proxy import START, Target, answers, many_files, stop
from tests.bench.proxy_load import Load
from tests.bench.proxy_peers import GUARD, Place, clean_environment
from tests.bench.proxy_report import machine
from tests.bench.proxy_script import DRAFTED

HERE = Path(__file__).resolve().parent
#: Chunks of a stream.
CHUNKS = 300


def started(folder: Path, counts: list[int]) -> tuple[Target, dict[int, Target]]:
    """The backend, and a guard for each number of workers; each once it can be used."""
    environment = clean_environment()

    def spawn(name: str, command: list[str], port: int) -> Target:
        with (folder / f"{name}.log").open("wb") as log:
            return Target(port, subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder))

    port = free_port()
    backend = spawn(
        "backend", [sys.executable, str(HERE / "proxy_backend.py"), str(port), str(folder / "shared")], port
    )
    guards = {}
    for count in counts:
        place = Place(folder / str(count), free_port(), port, DRAFTED)
        place.folder.mkdir()
        command = [sys.executable, "-m", "guard", "serve", "--config", place.config(GUARD, "guard.yaml")]
        guards[count] = spawn(f"guard-{count}", [*command, "--workers", str(count)], place.port)
    for target in (backend, *guards.values()):
        deadline = time.monotonic() + START
        while not answers(f"http://127.0.0.1:{target.port}/health"):
            if time.monotonic() > deadline or target.process.poll() is not None:
                raise SystemExit(f"not everything started; see the logs:\n{_logs(folder)}")
            time.sleep(0.1)
    return backend, guards


def _logs(folder: Path) -> str:
    return "\n".join(path.read_text()[-500:] for path in folder.glob("*.log"))


def loaded(load: Load) -> dict[str, Any]:
    """One load; figures as proxy_load.Client.figures has them."""
    command = [sys.executable, str(HERE / "proxy_load.py")]
    done = subprocess.run(command, input=msgspec.json.encode(load), capture_output=True, check=True, timeout=300)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def measured(counts: list[int], streams: int, rounds: int, chunks: int = CHUNKS) -> dict[str, Any]:
    """
    All rounds.

    Returns:
        By number of workers the medians: chunks_per_s, cores (that the guard's processes used), chunks_per_core_s.
        And integrity_errors over all.
    """
    errors = 0
    rows: dict[int, list[dict[str, Any]]] = {count: [] for count in counts}
    with many_files(), tempfile.TemporaryDirectory(prefix="guard-workers-") as name:
        folder = Path(name)
        backend, guards = started(folder, counts)
        try:
            for turn in range(rounds):
                # In the other order every second time, so that what else the machine does falls on both.
                for count in counts if turn % 2 == 0 else counts[::-1]:
                    load = Load(
                        port=guards[count].port,
                        shared=str(folder / "shared"),
                        key="",
                        pids=guards[count].pids(),
                        streams=streams,
                        chunks=chunks,
                        delay=0,
                        timeout=120,
                    )
                    figures = loaded(load)
                    errors += figures["errors"]
                    if not figures["errors"]:
                        rows[count].append(figures)
        finally:
            for target in (*guards.values(), backend):
                stop(target.process)
    return {"workers": {str(count): _medians(found) for count, found in rows.items()}, "integrity_errors": errors}


def _medians(rows: list[dict[str, Any]]) -> dict[str, float]:
    if not rows:
        return {}
    return {
        "chunks_per_s": round(median(row["chunks_per_s"] for row in rows)),
        "cores": round(median(row["cpu_share"] for row in rows), 2),
        "chunks_per_core_s": round(median(1e6 / row["cpu_us_per_chunk"] for row in rows)),
    }


def shown(result: dict[str, Any]) -> str:
    """A table, for a terminal and for Markdown."""
    lines = ["| workers | chunks/s | cores that the guard used | chunks/s for each of them |", "|---|---|---|---|"]
    for count, figures in result["workers"].items():
        values = (figures.get(name, "-") for name in ("chunks_per_s", "cores", "chunks_per_core_s"))
        lines.append(f"| {count} | " + " | ".join(map(str, values)) + " |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The guard with one worker process and with several.")
    parser.add_argument("--workers", type=lambda text: [int(word) for word in text.split(",")], default=[1, 2])
    parser.add_argument("--streams", type=int, default=128, help="at once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    args = parser.parse_args(argv)
    result = measured(args.workers, args.streams, args.rounds)
    print(f"{machine()}; {args.rounds} rounds, {args.streams} streams\n\n{shown(result)}\n")
    print(f"streams that were not what the backend said: {result['integrity_errors']}")
    if args.json:
        print(json.dumps(result))
    return 1 if result["integrity_errors"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
