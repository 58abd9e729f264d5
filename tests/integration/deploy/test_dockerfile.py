"""The Dockerfile's own steps build an image that serves: without rights, and with nothing to write to."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path

import aiohttp

from tests.integration.deploy.clean_root import Root, Stage, copy, parse, pip_environment, variables
from tests.integration.server.scripted import OK_SSE, backend
from tests.unit.core.transcript import DONE, chunk

CHECKOUT = Path(__file__).parents[3]
TEXT = (CHECKOUT / "deploy/Dockerfile").read_text(encoding="utf-8")
BUILD, LAST = parse(TEXT)
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def good(_: int) -> list[bytes | float | None]:
    return [OK_SSE, chunk("Hello"), chunk("", finish="stop"), DONE]


def perform(stage: Stage, root: Root, others: dict[str, Root]) -> None:
    """All steps of a stage that change files."""
    workdir = "/"
    bin_folder = root.folder / "tmp/bin"
    bin_folder.mkdir(parents=True, exist_ok=True)
    if not (bin_folder / "python").is_symlink():
        base = f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
        (bin_folder / "python").symlink_to(base)
    environment = {**pip_environment(), "PATH": "/tmp/bin:/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp"}
    for instruction, rest in stage.steps:
        words = rest.split()
        if instruction == "WORKDIR":
            workdir = rest
            (root.folder / workdir.strip("/")).mkdir(parents=True, exist_ok=True)
        elif instruction == "COPY" and words[0].startswith("--from="):
            copy(others[words[0].removeprefix("--from=")].folder, words[1:], root, workdir)
        elif instruction == "COPY":
            copy(CHECKOUT, words, root, workdir)
        elif instruction == "RUN":
            root.run(f"cd {workdir} && {rest}", environment)


def test_what_runs_is_small_and_has_no_rights() -> None:
    assert BUILD.image == LAST.image == "python:${PYTHON}-slim-bookworm"
    assert LAST.last("USER") == "10001:10001"
    assert json.loads(LAST.last("HEALTHCHECK").partition("CMD ")[2]) == ["guard", "healthcheck"]
    assert LAST.last("STOPSIGNAL") == "SIGTERM"
    assert [rest.split()[0] for kind, rest in LAST.steps if kind == "COPY"] == ["--from=build"]


def test_the_build_sees_what_it_copies_and_nothing_else() -> None:
    ignore = (CHECKOUT / "deploy/Dockerfile.dockerignore").read_text().split()
    assert ignore[0] == "*"
    copied = {word for kind, rest in BUILD.steps if kind == "COPY" for word in rest.split()[:-1]}
    assert {line[1:] for line in ignore if line.startswith("!")} == copied


async def test_its_steps_make_a_guard_that_serves_without_rights_and_writes_nothing(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o755)
    for folder in (tmp_path, *list(tmp_path.parents)[:-1]):
        if folder.stat().st_uid == os.geteuid():
            os.chmod(folder, folder.stat().st_mode | 0o111)
    roots = {"build": Root(tmp_path / "build"), "last": Root(tmp_path / "last")}
    for stage in (BUILD, LAST):
        await asyncio.to_thread(perform, stage, roots[stage.name], roots)
    root = roots["last"]
    assert not (root.folder / "opt/guard/bin/pip").exists()

    before = sorted(str(path) for path in root.folder.rglob("*") if "/proc/" not in str(path))
    shell = "export PATH=/opt/guard/bin:/usr/bin:/bin; exec guard serve"
    async with backend(good) as upstream:
        environment = {
            **variables(LAST), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "GUARD_UPSTREAMS_0_URL": upstream.url,
            "GUARD_LISTEN_PORT": "0", "GUARD_ADMIN_PORT": "0",
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *root.command(shell, read_only=True, user=LAST.last("USER")),
            env=environment, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        said = ""
        while "operators to" not in said:
            line = (await asyncio.wait_for(process.stderr.readline(), 30)).decode()
            assert line, said
            said += line
        found = re.search(r"connect to http://0.0.0.0:(\d+), operators to http://127.0.0.1:(\d+)", said)
        assert found, said
        if os.geteuid() == 0:
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert "Uid:\t10001\t10001\t10001\t10001" in status
            assert "CapBnd:\t0000000000000000" in status
        url = f"http://127.0.0.1:{found[1]}/v1/chat/completions"
        async with aiohttp.ClientSession() as client, client.post(url, json=BODY) as answer:
            assert "[DONE]" in await answer.text()
        health = root.command(
            f"export PATH=/opt/guard/bin:/usr/bin:/bin; guard healthcheck --url http://127.0.0.1:{found[2]}",
            read_only=True, user=LAST.last("USER"),
        )  # fmt: skip
        checked = await asyncio.create_subprocess_exec(*health, env=environment)
        assert await asyncio.wait_for(checked.wait(), 20) == 0
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
        await process.stderr.read()
    assert sorted(str(path) for path in root.folder.rglob("*") if "/proc/" not in str(path)) == before
