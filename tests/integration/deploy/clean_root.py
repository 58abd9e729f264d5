"""
The steps of a Dockerfile without a Docker engine: in a root of their own, that has of this machine only its
system, read-only.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

#: Links or folders of the system that a root needs to run anything.
_SYSTEM = ("bin", "lib", "lib64", "sbin")


@dataclass
class Stage:
    """One stage: its steps in order, as (instruction, rest)."""

    name: str
    image: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, instruction: str) -> str:
        """The rest of the last step of a kind; empty where there is none."""
        return next((rest for kind, rest in reversed(self.steps) if kind == instruction), "")


def parse(text: str) -> list[Stage]:
    """The stages of a Dockerfile."""
    stages: list[Stage] = []
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n", " ", lines).splitlines():
        if not line.strip():
            continue
        instruction, _, rest = line.strip().partition(" ")
        if instruction == "FROM":
            image, _, name = rest.partition(" AS ")
            stages.append(Stage(name or "last", image))
        elif stages:
            stages[-1].steps.append((instruction, " ".join(rest.split())))
    return stages


def variables(stage: Stage) -> dict[str, str]:
    """What its ENV steps set."""
    words = [word for kind, rest in stage.steps if kind == "ENV" for word in shlex.split(rest)]
    return dict(word.split("=", 1) for word in words)


class Root:
    """
    A root folder, and commands in it.

    Args:
        folder: Empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("usr", "etc", "dev", "proc", "tmp", "opt", "src", "var/lib"):
            (folder / name).mkdir(parents=True)
        for name in _SYSTEM:
            link = Path("/", name)
            if link.is_symlink():
                (folder / name).symlink_to(link.readlink())
            elif link.is_dir():
                (folder / name).mkdir()

    def command(self, script: str, *, read_only: bool = False, user: str = "") -> list[str]:
        """
        A command that runs a shell script in the root, in namespaces of its own.

        Args:
            script: For `sh`.
            read_only: Whether nothing of the root can be written.
            user: uid:gid to be, without any right; this user if empty.
        """
        root = shlex.quote(str(self.folder))
        binds = ["usr", "etc", *(name for name in _SYSTEM if not (self.folder / name).is_symlink())]
        lines = ["set -eu", f"mount --bind {root} {root}", f"cd {root}"]
        for name in binds:
            lines += [f"[ ! -d /{name} ] || mount --rbind /{name} {name}", f"mount -o remount,ro,bind {name} || true"]
        lines += ["mount --rbind /dev dev", "mount --rbind /proc proc"]
        base = Path(sys.base_prefix)
        if not base.is_relative_to("/usr"):
            lines += [f"mkdir -p .{base}", f"mount --bind {base} .{base}", f"mount -o remount,ro,bind .{base}"]
        drop = ""
        if user and os.geteuid() == 0:
            uid, gid = user.split(":")
            drop = f"setpriv --reuid {uid} --regid {gid} --clear-groups --no-new-privs --bounding-set=-all "
        if read_only:
            lines += [f"mount -o remount,ro,bind {root}", f"cd {root}"]
        lines.append(f"PATH=$PATH:/usr/sbin:/sbin exec chroot . {drop}/bin/sh -c {shlex.quote(script)}")
        spaces = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--mount"]
        return ["unshare", *spaces, "sh", "-c", "\n".join(lines)]

    def run(self, script: str, environment: dict[str, str]) -> None:
        """Run a script to its end. Raises AssertionError with what it said."""
        done = subprocess.run(self.command(script), env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"


def copy(source: Path, words: list[str], root: Root, workdir: str) -> None:
    """COPY, of files and folders, from a folder or another root."""
    *names, target = words
    into = root.folder / (target if target.startswith("/") else f"{workdir}/{target}").strip("/")
    for name in names:
        origin = source / name.lstrip("/")
        if origin.is_dir():
            unwanted = shutil.ignore_patterns() if name.startswith("/") else shutil.ignore_patterns("__pycache__")
            shutil.copytree(origin, into, dirs_exist_ok=True, symlinks=True, ignore=unwanted)
        else:
            where = into / origin.name if target.endswith("/") or into.is_dir() else into
            where.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(origin, where)


def pip_environment() -> dict[str, str]:
    """This machine's settings of pip, for a root that does not see its files."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    ).stdout
    found = re.findall(r"^global\.([\w-]+)='(.*)'$", listed, re.MULTILINE)
    given = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    return {f"PIP_{name.upper().replace('-', '_')}": value for name, value in found} | given
