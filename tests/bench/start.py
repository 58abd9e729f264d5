"""
How long `guard serve` takes from its start until it is ready, and how long the command line takes to import.

    python -m tests.bench.start [--times 7] [--json]

Wall time is from the start of the process to the first 200 of /readyz, CPU time what the process had used by then: on
a busy machine the latter is what the guard itself needs. The least of several runs is told; a first one, which may
have to make the byte code that an installed package has, does not count. Exit code 1 if the least is more than 1.0 s
(ready) or 0.3 s (import) of CPU time.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
import urllib.request

#: Most CPU time until it is ready, and for the import. Unit: seconds.
READY, IMPORT = 1.0, 0.3
_IMPORT = "import time; w, c = time.perf_counter(), time.process_time(); import guard.cli; "
_IMPORT += "print(time.perf_counter() - w, time.process_time() - c)"
#: As a user's process has it: where a test's keeps no byte code, each start would compile the whole package.
_ENVIRON = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def cpu_of(pid: int) -> float:
    """CPU time that a process has used with all its threads. Unit: seconds."""
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e9  # CPUCLOCK_SCHED: include/linux/posix-timers.h


def until_ready() -> tuple[float, float]:
    """One start: wall time and CPU time until it is ready. Unit: seconds."""
    command = [sys.executable, "-m", "guard", "serve", "--upstream", "http://127.0.0.1:9", "--port", "0"]
    began = time.perf_counter()
    process = subprocess.Popen([*command, "--admin-port", "0"], stderr=subprocess.PIPE, text=True, env=_ENVIRON)
    try:
        assert process.stderr is not None
        said = ""
        while not (found := re.search(r"operators to (\S+)", said)):
            line = process.stderr.readline()
            if not line:
                raise SystemExit(f"the guard did not start: {said}")
            said += line
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(found[1] + "/readyz", timeout=10) as answer:
            assert answer.status == 200
        return time.perf_counter() - began, cpu_of(process.pid)
    finally:
        process.kill()
        process.communicate()


def imported() -> tuple[float, float]:
    """Wall time and CPU time of `import guard.cli` in a process of its own. Unit: seconds."""
    done = subprocess.run([sys.executable, "-c", _IMPORT], check=True, capture_output=True, text=True, env=_ENVIRON)
    wall, cpu = map(float, done.stdout.split())
    return wall, cpu


def measured(times: int) -> dict[str, float]:
    """The least of so many runs. Units are in the names."""
    until_ready()
    ready, imports = [until_ready() for _ in range(times)], [imported() for _ in range(times)]
    return {
        "ready_wall_s": round(min(wall for wall, _ in ready), 3),
        "ready_cpu_s": round(min(cpu for _, cpu in ready), 3),
        "import_wall_s": round(min(wall for wall, _ in imports), 3),
        "import_cpu_s": round(min(cpu for _, cpu in imports), 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=7, help="runs of each (default 7)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result = measured(args.times)
    print(json.dumps(result) if args.json else "\n".join(f"{name}: {value}" for name, value in result.items()))
    return 1 if result["ready_cpu_s"] > READY or result["import_cpu_s"] > IMPORT else 0


if __name__ == "__main__":
    raise SystemExit(main())
