"""Real worker processes behind one port: requests are shared, a dead worker comes back, signals are passed on."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

from guard.clock import MonotonicClock
from guard.config import Listen
from guard.server.hung_workers import end_hung_workers
from guard.server.workers import Supervisor
from tests.integration.server.fleet import CHAT, PATIENCE, chat, fleet, until
from tests.integration.server.scripted import OK_SSE, backend
from tests.unit.core.transcript import DONE, chunk

ROOT = Path(__file__).parents[3]


async def test_a_worker_that_dies_is_started_again_and_its_counts_remain() -> None:
    script: list[bytes | float | None] = [OK_SSE, chunk("One ", finish="stop"), DONE]
    async with backend(lambda _: script) as upstream, fleet(upstream.url) as guard, aiohttp.ClientSession() as client:

        async def metrics() -> str:
            async with client.get(guard.admin + "/metrics") as response:
                return await response.text()

        for _ in range(8):
            await chat(client, guard.url)
        assert 'guard_exchanges_total{outcome="healthy"} 8.0' in await metrics()
        first, second = guard.workers()
        os.kill(first, signal.SIGKILL)

        async def started_again() -> bool:
            return "guard_worker_restarts_total 1.0" in await metrics() and "guard_workers 2.0" in await metrics()

        await until("the worker serves again", started_again)
        assert second in guard.workers()
        assert first not in guard.workers()
        for _ in range(8):
            assert "[DONE]" in await chat(client, guard.url)
        assert 'guard_exchanges_total{outcome="healthy"} 16.0' in await metrics()


async def test_a_worker_that_is_started_again_has_the_configuration_of_the_others_and_the_newest_policy(
    tmp_path: Path,
) -> None:
    script: list[bytes | float | None] = [OK_SSE, chunk("One ", finish="stop"), DONE]
    file, policy, draft = tmp_path / "guard.yaml", tmp_path / "policy.yaml", tmp_path / "draft.yaml"
    rules = (ROOT / "policies" / "default.yaml").read_text()
    policy.write_text(rules.replace("name: default\n", "name: first\n"))
    shutil.copy(ROOT / "draft_models" / "smollm2-135m-drop17" / "profile.yaml", draft)
    async with backend(lambda _: script) as upstream:
        replica = f"{{url: '{upstream.url}', profile: {draft}, num_speculative_tokens: 3}}"
        file.write_text(f"upstreams: [{replica}]\npolicy: {policy}\ncapabilities: assume\n")
        async with fleet(None, "--config", str(file)) as guard, aiohttp.ClientSession() as client:

            async def policies() -> set[str]:
                found = set()
                for _ in range(8):
                    headers = {"Connection": "close"}
                    async with client.post(guard.url + "/v1/chat/completions", json=CHAT, headers=headers) as response:
                        assert "[DONE]" in await response.text()
                        found.add(response.headers["x-guard-policy"])
                return found

            assert await policies() == {"first"}
            file.write_text("upstreams: [")
            draft.unlink()
            policy.write_text(rules.replace("name: default\n", "name: second\n"))
            os.kill(guard.workers()[0], signal.SIGKILL)

            async def both_again() -> bool:
                async with client.get(guard.admin + "/metrics") as response:
                    text = await response.text()
                return "guard_worker_restarts_total 1.0" in text and "guard_workers 2.0" in text

            await until("the worker serves again", both_again)

            async def all_second() -> bool:
                return await policies() == {"second"}

            await until("both judge by the newest policy", all_second)


#: A worker that takes its time to start, tells that it serves, and ends with its supervisor.
SLOW = """
import sys, time
time.sleep(0.5)
print('{"url": "http://h", "admin_url": "http://h"}', flush=True)
sys.stdin.read()
"""


async def test_a_reload_while_workers_start_ends_none_of_them() -> None:
    supervisor = Supervisor([sys.executable, "-c", SLOW], 2, Listen(port=0), 0.1, MonotonicClock())
    served: list[str] = []
    running = asyncio.create_task(supervisor.run(served.append))
    while not all(worker.process for worker in supervisor.workers):
        await asyncio.sleep(0)
    supervisor.reload()
    async with asyncio.timeout(PATIENCE):
        while not served:
            assert not running.done()
            await asyncio.sleep(0.01)
    assert [worker.restarts for worker in supervisor.workers] == [0, 0]
    supervisor.stop()
    await running


#: A worker that answers on its admin port.
ANSWERS = """
import http.server, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print('{"url": "http://h", "admin_url": "http://127.0.0.1:%d"}' % server.server_port, flush=True)
sys.stdin.read()
"""


async def test_a_worker_that_hangs_is_ended_and_started_again() -> None:
    clock = MonotonicClock()
    supervisor = Supervisor([sys.executable, "-c", ANSWERS], 2, Listen(port=0), 0.1, clock)
    served: list[str] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.5)) as client:
        running = asyncio.create_task(supervisor.run(served.append))
        async with asyncio.timeout(PATIENCE):
            while not served:
                assert not running.done()
                await asyncio.sleep(0.01)
        watching = asyncio.create_task(end_hung_workers(supervisor, client, clock, every=0.2, patience=4.0))
        hangs, other = supervisor.workers
        assert hangs.process is not None
        assert other.process is not None
        stopped, lives = hangs.process.pid, other.process.pid
        os.kill(stopped, signal.SIGSTOP)

        async def again() -> bool:
            return hangs.restarts == 1 and hangs.admin_url is not None

        await until("the worker that hung serves again", again)
        assert hangs.process.pid != stopped
        assert (other.process.pid, other.restarts) == (lives, 0)
        watching.cancel()
        supervisor.stop()
        await running


async def test_sigterm_lets_streams_in_flight_finish_and_sighup_reloads_every_worker() -> None:
    script: list[bytes | float | None] = [OK_SSE, chunk("One "), 1.5, chunk("two", finish="stop"), DONE]
    async with backend(lambda _: script) as upstream, fleet(upstream.url) as guard, aiohttp.ClientSession() as client:
        guard.process.send_signal(signal.SIGHUP)

        async def reloaded() -> bool:
            async with client.get(guard.admin + "/metrics") as response:
                return 'guard_policy_reloads_total{result="ok"} 2.0' in await response.text()

        await until("both have reloaded", reloaded)
        async with client.post(guard.url + "/v1/chat/completions", json=CHAT) as response:
            await response.content.readany()
            guard.process.terminate()
            rest = await response.text()
        assert "two" in rest
        assert "[DONE]" in rest
        async with asyncio.timeout(PATIENCE):
            assert await guard.process.wait() == 0


async def test_workers_do_not_outlive_their_supervisor() -> None:
    async with backend(lambda _: [OK_SSE]) as upstream, fleet(upstream.url) as guard:
        workers = guard.workers()
        guard.process.kill()

        async def all_gone() -> bool:
            return not any(os.path.exists(f"/proc/{pid}/fd/0") for pid in workers)

        await until("no worker is left", all_gone)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--workers", "0"], "--workers"),
        (["--workers", "2", "--policy", "no-such-policy"], "before it served"),
        (["--workers", "2", "--port", "{taken}"], "listen.port"),
        (["--workers", "2", "--admin-port", "{taken}"], "admin.port"),
    ],
)
async def test_what_cannot_start_says_why_and_ends(more: list[str], says: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        more = [word.format(taken=taken.getsockname()[1]) for word in more]
        argv = ["serve", "--upstream", "http://127.0.0.1:9", "--port", "0", "--admin-port", "0", *more]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "guard", *argv, stderr=pipe)
        async with asyncio.timeout(PATIENCE):
            _, said = await process.communicate()
    assert process.returncode == 2
    assert says in said.decode()
