"""
The proxies that the guard is compared with: their pins, their environments, and how each is started.

An environment is made on first use under ${XDG_CACHE_HOME:-~/.cache}/specdec-guard-ci/peer-NAME-KEY, the key a
hash of its pins and of Python's version, so that a changed pin makes a new one and checkouts share them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from guard.errors import SetupError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "specdec-guard-ci"

#: Peer -> what pip installs. LiteLLM stays at this release: a later one was reported compromised.
PINS = {
    "sglang-router": ("sglang-router==0.3.2",),
    "vllm-router": ("vllm-router==0.1.17",),
    "litellm": ("litellm[proxy]==1.106.12",),
}
#: After which a compiled guard of other sources is thrown away. Unit: seconds.
STALE = 86_400
#: LiteLLM does not start without a key of its own; every load sends it.
KEY = "sk-" + secrets.token_hex(32)

NGINX = """
worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log warn; daemon off;
events {{ worker_connections 16384; }}
http {{
  access_log off; tcp_nodelay on; keepalive_requests 1000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 1024; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
LITELLM = """
model_list:
  - model_name: bench
    litellm_params: {{model: hosted_vllm/bench, api_base: "http://127.0.0.1:{backend}/v1", api_key: none}}
litellm_settings: {{telemetry: false}}
"""
GUARD = """
upstreams: [{{url: "http://127.0.0.1:{backend}", engine: vllm, num_speculative_tokens: {drafted}}}]
policy: default
listen: {{port: {port}}}
admin: {{port: 0}}
log: {{level: warning}}
limits: {{max_in_flight: 8192}}
"""


@dataclass(frozen=True)
class Place:
    """Where one proxy is to run."""

    folder: Path
    port: int
    backend: int
    drafted: int
    checkout: Path = ROOT

    def config(self, template: str, name: str) -> str:
        """Write a configuration file; its path."""
        path = self.folder / name
        path.write_text(template.format(folder=self.folder, port=self.port, backend=self.backend, drafted=self.drafted))
        return str(path)


def environment(name: str) -> Path:
    """
    The interpreter of a peer's environment; made now if it is not there yet.

    Raises:
        SetupError: pip could not install the pins.
    """
    pins = PINS[name]
    key = hashlib.sha256(" ".join((*pins, sys.version.split()[0])).encode()).hexdigest()[:16]
    folder = CACHE / f"peer-{name}-{key}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"peer-{name}-{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".complete").exists():
            print(f"proxy.py: making {folder} ...", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=True)
            pip = [folder / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *pins]
            done = subprocess.run([str(part) for part in pip], check=False, capture_output=True, text=True)
            if done.returncode:
                raise SetupError(f"pip could not install {' '.join(pins)}: {done.stderr[-500:]}")
            (folder / ".complete").touch()
    return folder / "bin/python"


def _router(name: str, module: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        return [
            *(str(environment(name)), "-m", module),
            *("--host", "127.0.0.1", "--port", str(place.port)),
            *("--worker-urls", f"http://127.0.0.1:{place.backend}", "--policy", "round_robin"),
            *("--prometheus-host", "127.0.0.1", "--prometheus-port", str(place.port + 1000)),
            *("--log-level", "error", "--max-concurrent-requests", "16384"),
        ]

    return command


def _nginx(place: Place) -> list[str]:
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    return [program, "-c", place.config(NGINX, "nginx.conf"), "-p", str(place.folder)]


def _litellm(place: Place) -> list[str]:
    program = environment("litellm").parent / "litellm"
    config = place.config(LITELLM, "litellm.yaml")
    return [str(program), "--config", config, "--host", "127.0.0.1", "--port", str(place.port), "--num_workers", "1"]


def _aiohttp(place: Place) -> list[str]:
    return [sys.executable, str(HERE / "proxy_aiohttp.py"), str(place.port), str(place.backend)]


def _guard(place: Place) -> list[str]:
    return ["env", f"PYTHONPATH={place.checkout}", *_guard_python(place)]


def _guard_python(place: Place) -> list[str]:
    return [sys.executable, "-m", "guard", "serve", "--config", place.config(GUARD, "guard.yaml")]


def compiled() -> Path:
    """
    The guard of this checkout as the image has it, what runs for every chunk compiled; kept until a source changes.

    Raises:
        SetupError: It cannot be compiled here; the message's last line says why.
    """
    sums = hashlib.sha256(sys.version.encode())
    sources = [
        *(ROOT / "guard").rglob("*.py"),
        *(ROOT / "guard").rglob("*.c"),
        ROOT / "deploy/compile.py",
        *(ROOT / "policies").rglob("*.yaml"),
    ]
    for path in sorted(sources):
        sums.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    folder = CACHE / f"bench-{sums.hexdigest()[:16]}"
    if not folder.exists():
        print("proxy.py: compiling ...", file=sys.stderr, flush=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        for old in CACHE.glob("bench-*"):
            if old.stat().st_mtime < time.time() - STALE:
                shutil.rmtree(old, ignore_errors=True)
        made = Path(tempfile.mkdtemp(dir=CACHE))
        command = [sys.executable, str(ROOT / "deploy/compile.py"), str(made)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(made)
            raise SetupError(f"deploy/compile.py failed: {(done.stderr.strip() or done.stdout.strip())[-300:]}")
        made.rename(folder)
    return folder


#: Name -> the command that runs it. The first is what is measured, the rest is what it is held against.
TARGETS: dict[str, Callable[[Place], list[str]]] = {
    "guard": _guard,
    "guard-python": _guard_python,
    "aiohttp": _aiohttp,
    "nginx": _nginx,
    "sglang-router": _router("sglang-router", "sglang_router.launch_router"),
    "vllm-router": _router("vllm-router", "vllm_router.launch_router"),
    "litellm": _litellm,
}
#: Routes that tell when a proxy can be used, where it is not /health.
READY = {"litellm": "/health/liveliness"}


def clean_environment() -> dict[str, str]:
    """For the proxies: nothing of theirs goes out to the network, and this checkout's guard is found."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": "*",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MASTER_KEY": KEY,
        "HF_HUB_OFFLINE": "1",
    }
