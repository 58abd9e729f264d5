"""The benchmark itself: it ends with its one line, and a stream that was changed on the way does not pass."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bench.proxy import Bench, run_load
from tests.bench.proxy_load import Load
from tests.bench.proxy_report import Row, closing_line, summary

HERE = Path(__file__).resolve().parent


def test_the_last_line_is_one_object_with_every_figure() -> None:
    command = [sys.executable, str(HERE / "proxy.py"), "--json", "--quick", "--only", "aiohttp", "--rounds", "1"]
    command += ["--build", "python"]
    done = subprocess.run(
        [*command, "--loads", "ttft,c100,m1"], capture_output=True, text=True, check=True, timeout=170
    )
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["integrity_errors"] == 0
    assert line["cpu_per_chunk_ratio"]["aiohttp"] > 0.5
    assert line["added_ttft_ms_p50"] is not None
    assert line["added_latency_ms_p50"] is not None
    assert line["rss_mib"]["1"] > 10
    assert "| guard |" in done.stdout


@contextlib.asynccontextmanager
async def changing(port: int, old: bytes, new: bytes) -> AsyncIterator[int]:
    """A relay that exchanges some bytes of what the backend says; its port."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, ahead = await asyncio.open_connection("127.0.0.1", port)
        ahead.write(await reader.read(65536))
        while data := await behind.read(65536):
            writer.write(data.replace(old, new))
        writer.close()
        ahead.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"\x00", b"\x00", ""),
        (b'"content":" the"', b'"content":" teh"', "the text is another"),
        (b'"content":" the"', b'"kontent":" the"', "chunks of"),
        (b"data: [DONE]", b"data: [ENDE]", "ended 0 times"),
        (b'"finish_reason":"stop"', b'"finish_reason":"halt"', "finish reason False"),
    ],
)
async def test_a_stream_that_was_changed_on_the_way_is_broken(
    tmp_path: Path, old: bytes, new: bytes, says: str
) -> None:
    bench = Bench(tmp_path)
    try:
        bench.start([])
        async with changing(bench.targets["direct"].port, old, new) as port:
            load = Load(port=port, shared=bench.shared, key="", pids=[], chunks=100, delay=1000, timeout=30)
            figures = await asyncio.to_thread(run_load, load)
    finally:
        bench.stop()
    assert figures["errors"] == (1 if says else 0)
    assert says in str(figures["problems"])


def row(target: str, turn: int, cpu: float, errors: int = 0) -> Row:
    return Row("c100", target, turn, {"errors": errors, "cpu_us_per_chunk": cpu, "latency_ms_p50": cpu, "streams": 1})


def test_ratios_are_taken_within_a_round_and_broken_loads_left_out() -> None:
    rows = [row("direct", 0, 1.0), row("direct", 1, 1.0)]
    rows += [row("guard", 0, 20.0), row("guard", 1, 90.0), row("guard", 2, 1.0, errors=2)]
    rows += [row("nginx", 0, 10.0), row("nginx", 1, 30.0), row("nginx", 2, 500.0)]
    line = closing_line(rows)
    assert line["cpu_per_chunk_ratio"] == {"nginx": 2.5}
    assert line["added_latency_ms_p50"] == 54.0
    assert line["integrity_errors"] == 2
    assert "Not measured: litellm (gone)" in summary(rows, {"litellm": "gone"})
