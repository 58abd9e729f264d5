"""What differs between a worker and a guard that is alone, and what cannot be supervised."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import msgspec
import pytest

from guard.config import AdminListen, Config, Listen, UpstreamSettings
from guard.errors import ConfigError
from guard.lab.supervise import announce_to_supervisor, supervise_command, worker_config
from guard.observe.recorder import RecorderSettings
from guard.server.run import Running
from guard.server.watched import ReadOnce
from guard.server.workers import Announcement

CONFIG = Config(
    upstreams=[UpstreamSettings(url="http://127.0.0.1:9")],
    listen=Listen(port=8000),
    admin=AdminListen(host="0.0.0.0", port=8001),
    recording=RecorderSettings(folder="records", name="kept"),
)


def test_a_worker_has_its_admin_port_on_loopback_and_files_of_its_own() -> None:
    mine = worker_config(CONFIG, 3)
    assert mine.admin == AdminListen(host="127.0.0.1", port=0)
    assert mine.recording is not None
    assert mine.recording.name == "kept-worker3"
    assert mine.listen == CONFIG.listen


@pytest.mark.parametrize(("workers", "embedded"), [(0, False), (-1, False), (1000, False), (2, True)])
def test_what_cannot_be_supervised_is_refused(workers: int, embedded: bool) -> None:
    with pytest.raises(ConfigError, match="--workers"):
        asyncio.run(supervise_command(CONFIG, [], ReadOnce(None, "configuration"), workers=workers, embedded=embedded))


def test_the_announcement_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    announce_to_supervisor(Running(None, "http://a", "http://b"))  # type: ignore[arg-type]
    said = capsys.readouterr().out
    assert said.endswith("\n")
    assert msgspec.json.decode(said, type=Announcement) == Announcement("http://a", "http://b")


def test_the_end_of_standard_input_is_a_sigterm() -> None:
    code = (
        "import asyncio; from guard.lab.supervise import stop_with_supervisor\n"
        "async def main():\n"
        "    stop_with_supervisor(); print('up', flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.stdin.write(b"noise")
    process.stdin.flush()
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(30) == -signal.SIGTERM
    process.stdout.close()
