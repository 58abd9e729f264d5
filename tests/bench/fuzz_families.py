"""
Coverage-guided fuzzing of every family's parser, writer and gatherer, and of the reading of requests:

    python -m tests.bench.fuzz_families --minutes 5
    python -m tests.bench.fuzz_families --replay FILE

The first begins with all recorded streams, tells its seed, and ends with one line of JSON; its exit code is 0 when
nothing but the declared errors came and the memory stayed under the limit. An input that broke something is kept in
a file, which the line names; it belongs into tests/property/core/test_any_stream.py as a case of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: Most memory the fuzzer may come to, the code under test and its coverage tables included. Unit: MiB.
RSS_LIMIT = 1024
#: Longest input. Unit: bytes.
MAX_LENGTH = 65_536
#: Longest that one input may take. Unit: seconds.
SLOWEST = 20
#: An input is this head, then the backend's bytes. Unit: bytes.
HEAD = 10
_STATS = {
    "executions": "number_of_executed_units",
    "per_second": "average_exec_per_sec",
    "peak_rss_mb": "peak_rss_mb",
    "slowest_s": "slowest_unit_time_sec",
}


def one(data: bytes) -> None:
    """One input: family, engine, request, whether the bytes are a request too, three cuts, then the backend's bytes."""
    from guard.proto.registry import FAMILIES  # noqa: PLC0415 - imported under the fuzzer's eyes
    from tests.property.core.any_stream import BODIES, ENGINES, play, read_request  # noqa: PLC0415

    head, stream = data[:HEAD].ljust(HEAD, b"\0"), data[HEAD:]
    family = FAMILIES[head[0] % len(FAMILIES)]
    if head[3] & 2:
        read_request(family, stream)
    places = [int.from_bytes(head[at : at + 2], "little") for at in (4, 6, 8)]
    marks = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    pieces = [stream[start:end] for start, end in itertools.pairwise(marks)]
    body = BODIES[head[2] % len(BODIES)]
    play(family, ENGINES[head[1] % len(ENGINES)], body, pieces, annotate=bool(head[3] & 1))


def seeds() -> list[bytes]:
    """Every recorded stream for every kind of request, on its own family and engine."""
    from guard.proto.registry import FAMILIES, family_at  # noqa: PLC0415
    from tests.property.core.any_stream import BODIES, ENGINES  # noqa: PLC0415
    from tests.property.core.recorded import STREAMS  # noqa: PLC0415

    out: list[bytes] = []
    for engine, path, stream in STREAMS.values():
        family = family_at(path)
        assert family is not None
        for body in range(len(BODIES)):
            head = bytes([FAMILIES.index(family), ENGINES.index(engine), body, body % 2])
            out.append(head.ljust(HEAD, b"\x11") + stream[:MAX_LENGTH])
    return out


def fuzz(seconds: int, seed: int, artifacts: Path, rss: int = RSS_LIMIT) -> dict[str, Any]:
    """
    Fuzz in a process of its own.

    Args:
        seconds: For how long.
        seed: Of the fuzzer's choices.
        artifacts: Folder for an input that broke something.
        rss: Most memory. Unit: MiB.

    Returns:
        What is printed in the end.
    """
    with tempfile.TemporaryDirectory() as corpus:
        known = seeds()
        for number, data in enumerate(known):
            (Path(corpus) / f"seed-{number:03d}").write_bytes(data)
        options = [
            f"-max_total_time={seconds}",
            f"-seed={seed}",
            f"-rss_limit_mb={rss}",
            f"-max_len={MAX_LENGTH}",
            f"-timeout={SLOWEST}",
            f"-artifact_prefix={artifacts}/",
            "-print_final_stats=1",
        ]
        command = [sys.executable, "-m", "tests.bench.fuzz_families", "--fuzzer", corpus, *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    return _told(done.stderr + done.stdout, done.returncode, seed=seed, seconds=seconds, rss=rss, known=len(known))


def _told(said: str, code: int, *, seed: int, seconds: int, rss: int, known: int) -> dict[str, Any]:
    stats = {
        name: int(found[1]) for name, key in _STATS.items() if (found := re.search(rf"stat::{key}:\s+(\d+)", said))
    }
    coverage = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", said)
    edges, _, corpus = (int(part) for part in coverage[-1]) if coverage else (0, 0, 0)
    broke = re.search(r"Test unit written to (\S+)", said)
    report: dict[str, Any] = {"seed": seed, "seconds": seconds, "seeds": known, "edges": edges, "corpus": corpus}
    report |= {**stats, "rss_limit_mb": rss, "crash": broke[1] if broke else None}
    if code:
        report["said"] = said[-3000:]
    report["ok"] = code == 0 and broke is None and stats.get("peak_rss_mb", rss + 1) <= rss
    return report


def _fuzzer(arguments: Sequence[str]) -> None:
    """The process that fuzzes: instruments the guard as it is imported."""
    import atheris  # noqa: PLC0415 - only this process needs it

    with atheris.instrument_imports(include=["guard"]):
        import guard.proto.registry  # noqa: F401, PLC0415
        import tests.property.core.any_stream  # noqa: F401, PLC0415
    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def main() -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fuzz_families")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0, help="of an earlier run; 0: a new one")
    parser.add_argument("--artifacts", type=Path, default=Path(tempfile.gettempdir()), help="where a bad input is kept")
    parser.add_argument("--replay", type=Path, help="give this one input instead")
    asked = parser.parse_args()
    if asked.replay is not None:
        one(asked.replay.read_bytes())
        return 0
    seed = asked.seed or secrets.randbelow(2**31 - 1) + 1
    print(f"seed {seed}", flush=True)
    report = fuzz(round(asked.minutes * 60), seed, asked.artifacts)
    print(json.dumps(report))
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--fuzzer"]:
        _fuzzer(sys.argv[2:])
    sys.exit(main())
