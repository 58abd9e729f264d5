"""The systemd unit: verified, its exposure measured, and run by a systemd of its own in namespaces."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guard.lab.ports import free_port
from tests.integration.deploy.clean_root import Root

CHECKOUT = Path(__file__).parents[3]
UNIT = CHECKOUT / "deploy/systemd/specdec-guard.service"
NAME = UNIT.name
#: For a systemd that is alone: no other unit, output to a file. User namespaces inside of namespaces are not to be
#: had on every kernel, so that one setting of forty is left out.
ALONE = """
[Unit]
DefaultDependencies=no
After=
Wants=
[Service]
PrivateUsers=no
StandardOutput=file:/said/log
StandardError=file:/said/log
"""
LAUNCHER = """#!/bin/sh
LD_LIBRARY_PATH=/opt/base/lib PYTHONPATH=/src:/site exec /opt/base/bin/{python} -m guard "$@"
"""
BOOT = """
set -eu
mount --make-rprivate /
mount --bind {root} {root}; cd {root}
mount --rbind /usr usr; mount -o remount,ro,bind usr
mount -t tmpfs none etc
for name in passwd group nsswitch.conf ld.so.cache hosts alternatives; do
    [ ! -e /etc/$name ] || cp -a /etc/$name etc/
done
echo 0123456789abcdef0123456789abcdef > etc/machine-id
mkdir -p etc/systemd/system etc/specdec-guard; cp -a units/. etc/systemd/system/; cp guard.yaml etc/specdec-guard/
mount --rbind /dev dev; mount --bind {console} dev/console
mount -t proc proc proc; mount -t tmpfs none run
mount -t sysfs none sys; mount -t cgroup2 none sys/fs/cgroup
mount --bind {base} opt/base; mount --bind {site} site; mount --bind {checkout} src
PATH=$PATH:/usr/sbin exec chroot . /usr/bin/env -i container=docker PATH=/usr/bin:/usr/sbin:/bin \\
    /lib/systemd/systemd --system --unit={name} --log-target=console --show-status=no
"""


class Booted:
    """A systemd as process 1 of namespaces of its own, with the guard as its only unit."""

    def __init__(self, folder: Path, admin: int, process: subprocess.Popen[bytes], console: int) -> None:
        self.folder, self.admin, self.console = folder, admin, console
        self._pid = ""

        def first_child() -> bool:
            listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            self._pid = listed[0] if listed else ""
            return bool(self._pid)

        self.until(first_child)

    def until(self, holds: Callable[[], object], within: float = 30) -> None:
        """Wait until something holds. Unit of `within`: seconds."""
        deadline = time.monotonic() + within
        while not holds():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)

    def said(self) -> str:
        """What systemd wrote to its console, and the guard to its log."""
        out = b""
        while select.select([self.console], [], [], 0)[0]:
            out += os.read(self.console, 65536)
        log = self.folder / "said/log"
        return out.decode(errors="replace") + (log.read_text() if log.exists() else "")

    def systemctl(self, *words: str) -> str:
        """Systemctl inside of it."""
        inside = ["nsenter", "--target", self._pid, "--mount", "--pid", "--cgroup", "--ipc", "--uts", "--root"]
        done = subprocess.run([*inside, "/bin/systemctl", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + self.said()
        return done.stdout

    def shows(self, what: str) -> str:
        """One property of the unit."""
        return self.systemctl("show", NAME, "--property", what, "--value").strip()

    def status(self) -> dict[str, str]:
        """/proc/PID/status of the guard."""
        pids = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split()
        for pid in pids:
            if b"\0guard\0serve\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                return {line.split(":")[0]: line.split(":")[1].strip() for line in lines}
        raise AssertionError(self.said())

    def ready(self) -> bool:
        """Whether the guard answers /readyz with 200."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=2) as answer:
                return answer.status == 200
        except urllib.error.URLError:
            return False


@pytest.fixture
def booted(tmp_path: Path) -> Iterator[Booted]:
    root = Root(tmp_path / "root")
    for name in ("run", "sys", "src", "site", "opt/base", "opt/specdec-guard/bin", "said", f"units/{NAME}.d"):
        (root.folder / name).mkdir(parents=True, exist_ok=True)
    (root.folder / "var/run").symlink_to("/run")
    launcher = root.folder / "opt/specdec-guard/bin/guard"
    launcher.write_text(LAUNCHER.format(python=f"python{sys.version_info.major}.{sys.version_info.minor}"))
    launcher.chmod(0o755)
    shutil.copy(UNIT, root.folder / "units")
    (root.folder / f"units/{NAME}.d/alone.conf").write_text(ALONE)
    admin = free_port()
    (root.folder / "guard.yaml").write_text(
        f"upstreams: [{{url: 'http://127.0.0.1:9'}}]\nlisten: {{port: {free_port()}}}\nadmin: {{port: {admin}}}\n"
        "recording: {folder: /var/lib/specdec-guard}\n"
    )
    console, other = pty.openpty()
    site = next(path for path in sys.path if path.endswith("site-packages"))
    script = BOOT.format(
        root=shlex.quote(str(root.folder)), console=os.ttyname(other), base=sys.base_prefix, site=site,
        checkout=shlex.quote(str(CHECKOUT)), name=NAME,
    )  # fmt: skip
    spaces = ["--pid", "--fork", "--kill-child", "--mount", "--cgroup", "--uts", "--ipc"]
    process = subprocess.Popen(["unshare", *spaces, "sh", "-c", script])
    try:
        yield Booted(root.folder, admin, process, console)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(console)
        os.close(other)


def test_it_runs_under_systemd_without_rights_reloads_and_stops(booted: Booted) -> None:
    booted.until(booted.ready)
    assert booted.shows("ActiveState") == "active"
    status = booted.status()
    uid = int(status["Uid"].split()[0])
    assert 61184 <= uid <= 65519  # systemd's range for DynamicUser
    assert status["CapEff"] == status["CapBnd"] == "0" * 16
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert booted.shows("StateDirectory") == "specdec-guard"
    booted.systemctl("reload", NAME)
    booted.systemctl("stop", NAME)
    assert booted.shows("Result") == "success"
    assert booted.shows("ExecMainStatus") == "0"
    said = booted.said()
    assert '"event": "draining"' in said
    assert '"event": "stopped"' in said


def test_systemd_finds_nothing_wrong_and_little_exposed(tmp_path: Path) -> None:
    unit = tmp_path / NAME
    # The program is not installed here.
    unit.write_text(re.sub(r"/opt/specdec-guard/bin/guard", "/bin/true", UNIT.read_text()))
    checked = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", "--json=short", str(unit)]
    rated = subprocess.run(command, capture_output=True, text=True, check=True)
    assert sum(float(one["exposure"] or 0) for one in json.loads(rated.stdout)) < 2.0
    limit = subprocess.run([*command[:-2], "--threshold=15", str(unit)], capture_output=True, check=False)
    assert limit.returncode == 0


def test_it_gives_streams_the_time_to_end() -> None:
    text = UNIT.read_text()
    stop = re.search(r"TimeoutStopSec=(\d+)", text)
    assert stop
    from guard.config import TimeoutSettings  # noqa: PLC0415

    assert int(stop[1]) > TimeoutSettings().drain + 5
