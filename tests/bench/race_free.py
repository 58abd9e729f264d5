"""
The race-free cache on two real vLLM processes; run it in the environment of deploy/vllm_env.sh.

    python -m tests.bench.race_free              the faults: a table
    python -m tests.bench.race_free --rounds 40  more rounds of each with the rules

Without a rule, 20 rounds each: how often the next request's answer is another one. With all rules, how often.
"""

from __future__ import annotations

import argparse
import time

from tests.vllm.backend.vllm.push.bed import bed
from tests.vllm.backend.vllm.push.cases import SAFE, UNSAFE, Cases, Found


def line(rules: str, name: str, found: Found, seconds: float) -> str:
    """One line of the table."""
    cells = [rules, name, found.rounds, found.corrupted, found.reused, found.wrote_late, found.quarantined]
    cells += [found.stale, found.rounds - found.not_returned, "yes" if found.alive else "NO", f"{seconds:.0f} s"]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="of each case with the rules")
    parser.add_argument("--unsafe", type=int, default=20, help="of each case without one")
    chosen = parser.parse_args()
    wrong = total = 0
    with bed() as both:
        cases = Cases(both)
        print(f"pushed content gives the local answer: {cases.remote_equals_local(10)} of 10", flush=True)
        print("| rules | fault | rounds | next request corrupted | blocks reused | wrote late | quarantined "
              "| stale | all blocks back | alive | time |\n" + "|---" * 11 + "|", flush=True)
        for name, case in UNSAFE.items():
            started = time.monotonic()
            found = cases.run(case, chosen.unsafe)
            print(line("one off", name, found, time.monotonic() - started), flush=True)
        for name, case in SAFE.items():
            started = time.monotonic()
            found = cases.run(case, chosen.rounds)
            print(line("all", name, found, time.monotonic() - started), flush=True)
            wrong, total = wrong + found.corrupted + found.not_returned, total + found.rounds
        started = time.monotonic()
        found = cases.dead_writer()
        print(line("all", "dead writer", found, time.monotonic() - started), found.notes, flush=True)
        wrong, total = wrong + found.corrupted + found.not_returned, total + found.rounds
    print(f"with all rules: {wrong} of {total} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
