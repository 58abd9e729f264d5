"""What differs between a worker and a guard that is alone, and what cannot be supervised."""

from __future__ import annotations

import asyncio
import math
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from guard.config import AdminListen, Config, Listen, TimeoutSettings, UpstreamSettings, load_config
from guard.detect.baseline import Baseline
from guard.errors import ConfigError
from guard.lab.supervise import Handed, announce_to_supervisor, supervise_command, worker_config
from guard.observe.recorder import RecorderSettings
from guard.server.run import Running
from guard.server.watched import ReadOnce
from guard.server.workers import Announcement

ROOT = Path(__file__).parents[3]
CONFIG = Config(
    upstreams=[UpstreamSettings(url="http://127.0.0.1:9")],
    listen=Listen(port=8000),
    admin=AdminListen(host="0.0.0.0", port=8001),
    recording=RecorderSettings(folder="records", name="kept"),
)


def test_a_worker_has_its_admin_port_on_loopback_and_files_of_its_own() -> None:
    mine = worker_config(CONFIG, 3, 8123)
    assert mine.admin == AdminListen(host="127.0.0.1", port=0)
    assert mine.recording is not None
    assert mine.recording.name == "kept-worker3"
    assert mine.listen == Listen(port=8123)


@pytest.mark.parametrize(("workers", "embedded"), [(0, False), (-1, False), (1000, False), (2, True)])
def test_what_cannot_be_supervised_is_refused(workers: int, embedded: bool) -> None:
    file = ReadOnce(None, "configuration")
    with pytest.raises(ConfigError, match="--workers"):
        asyncio.run(supervise_command(Handed(CONFIG, {}), [], file, workers=workers, embedded=embedded))


def test_the_announcement_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    announce_to_supervisor(Running(None, "http://a", "http://b"))  # type: ignore[arg-type]
    said = capsys.readouterr().out
    assert said.endswith("\n")
    assert msgspec.json.decode(said, type=Announcement) == Announcement("http://a", "http://b")


SETTINGS = """
upstreams:
  - {url: http://a:1, name: a, engine: sglang, num_speculative_tokens: 3}
  - {url: http://b:1, resolve: host}
pool: {dns: {nameservers: ["10.0.0.1:53"]}, quality: {kinds: [garbled]}}
policy: [strict, default]
shadow_policy: published
listen: {port: 1}
admin: {port: 2}
access: {admin_token: secret-secret-secret, other_paths: [/v1/models]}
upstream_tls: {ca: ca.pem}
limits: {max_in_flight: 7}
timeouts: {drain: 1.5}
log: {level: debug}
tracing: {endpoint: http://t:4318}
audit: {share: 0.25}
capabilities: assume
recording: {folder: there, text: scrambled}
dashboard: {cases: [cases.jsonl]}
retry_budget: {share: 0.5}
store: {url: "redis://redis:6379/0"}
second_look: false
"""
READS = """
import os, sys
from guard.lab.supervise import handed_down
handed = handed_down()
print(handed, os.read(0, 99), flush=True)
"""


def test_a_worker_is_handed_all_that_the_supervisor_has_and_reads_not_a_byte_more() -> None:
    upstreams = [UpstreamSettings(url=f"http://replica-{number}:9", profile="p") for number in range(5000)]
    config = msgspec.structs.replace(CONFIG, upstreams=upstreams, timeouts=TimeoutSettings(drain=math.inf))
    handed = Handed(config, {"http://replica-0:9": Baseline(0.8, 5000.0, 3)})
    found = subprocess.run(
        [sys.executable, "-c", READS], input=handed.packed() + b"on", capture_output=True, check=True
    )
    assert found.stdout.decode() == f"{handed} b'on'\n"


def test_a_setting_of_each_section_comes_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text(SETTINGS)
    loaded = load_config(file)
    left = [name for name in Config.__struct_fields__ if getattr(loaded, name) == getattr(CONFIG, name)]
    assert left == [], "each section has something of its own"
    handed = Handed(loaded, {})
    assert msgspec.msgpack.decode(handed.packed()[4:], type=Handed) == handed


@pytest.mark.parametrize("kept", [0, 2, -1])
def test_a_worker_without_a_supervisor_says_so(kept: int) -> None:
    argv = [sys.executable, "-m", "guard", "serve", "--port", "0", "--worker", "0"]
    found = subprocess.run(argv, input=Handed(CONFIG, {}).packed()[:kept], capture_output=True, check=False)
    assert found.returncode == 2
    assert found.stderr.decode().splitlines() == [
        "guard: a worker is started by its supervisor, which gives it its configuration"
    ]


def test_a_worker_of_another_version_than_its_supervisor_says_so() -> None:
    data = msgspec.msgpack.encode({"config": {"upstreams": [], "gone_by_now": 1}, "baselines": {}})
    argv = [sys.executable, "-m", "guard", "serve", "--port", "0", "--worker", "0"]
    found = subprocess.run(argv, input=len(data).to_bytes(4, "big") + data, capture_output=True, check=False)
    assert found.returncode == 2
    assert b"guard: the supervisor is of another version, restart it: " in found.stderr


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
