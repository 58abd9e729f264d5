"""Real Redis servers on free loopback ports: alone, with TLS and users, behind a Sentinel, as a Cluster."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from guard.lab.ports import free_port


def until(holds: Callable[[], Any], within: float = 15.0) -> None:
    """Wait for something that a server does by itself."""
    end = time.monotonic() + within
    while True:
        try:
            if holds():
                return
        except (redis.RedisError, OSError):
            pass
        assert time.monotonic() < end, "the server did not get there in time"
        time.sleep(0.05)


class Server:
    """
    One redis-server process; it can be killed, stopped in its tracks, filled, and started again.

    Args:
        folder: Where it may write.
        options: Lines of its configuration, "name value".
        sentinel: Whether it is a Sentinel.
        tls: Certificates, for a server that speaks nothing but TLS.
    """

    def __init__(self, folder: Path, *options: str, sentinel: bool = False, tls: dict[str, str] | None = None) -> None:
        self.port = free_port()
        self.url = f"{'rediss' if tls else 'redis'}://127.0.0.1:{self.port}/0"
        self._tls = tls
        self._folder = folder / f"redis-{self.port}"
        self._folder.mkdir()
        self._sentinel = sentinel
        lines = ["bind 127.0.0.1", "save ''", "appendonly no", f"dir {self._folder}", "daemonize no", *options]
        lines.append(f"port {0 if tls else self.port}")
        if tls:
            lines += [
                f"tls-port {self.port}",
                f"tls-cert-file {tls['server.crt']}",
                f"tls-key-file {tls['server.key']}",
            ]
            lines += [f"tls-ca-cert-file {tls['ca.crt']}", "tls-auth-clients no"]
        if sentinel:
            lines = [line for line in lines if not line.startswith(("save", "appendonly"))]
        self._config = self._folder / "redis.conf"
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def start(self, *, wait: bool = True) -> Server:
        command = [shutil.which("redis-server") or "redis-server", str(self._config)]
        log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen(command + ["--sentinel"] * self._sentinel, stdout=log, stderr=log)
        log.close()
        if wait:
            until(lambda: self.client().ping())
        return self

    def client(self, **how: Any) -> redis.Redis:
        if self._tls:
            how |= {"ssl": True, "ssl_ca_certs": self._tls["ca.crt"]}
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=5, protocol=2, **how)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def fill(self) -> None:
        """Let it run out of memory: every write is refused."""
        with self.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", 1)

    def unfill(self) -> None:
        with self.client() as client:
            client.config_set("maxmemory", 0)

    def read_only(self) -> None:
        """Make it a replica of a master that is not there."""
        with self.client() as client:
            client.replicaof("127.0.0.1", free_port())

    def writable(self) -> None:
        with self.client() as client:
            client.replicaof("NO", "ONE")


class Cluster:
    """Three masters that share the slots."""

    def __init__(self, folder: Path) -> None:
        options = ("cluster-enabled yes", "cluster-node-timeout 2000")
        self.nodes = [Server(folder, *options, f"cluster-port {free_port()}") for _ in range(3)]

    def start(self) -> Cluster:
        for node in self.nodes:
            node.start()
        clients = [node.client() for node in self.nodes]
        bounds = [0, 5461, 10923, 16384]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
        for node in self.nodes[1:]:
            bus = int(node._config.read_text().split("cluster-port ")[1].split()[0])
            clients[0].execute_command("CLUSTER MEET", "127.0.0.1", node.port, bus)
        for client in clients:
            until(lambda client=client: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")  # type: ignore[misc]
            client.close()
        return self

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()


class Sentinels:
    """A master, its replica, and a Sentinel that may change them over by itself."""

    def __init__(self, folder: Path) -> None:
        self.master = Server(folder, "repl-diskless-sync-delay 0")
        self.replica = Server(folder, f"replicaof 127.0.0.1 {self.master.port}", "repl-diskless-sync-delay 0")
        self.sentinel = Server(
            folder,
            f"sentinel monitor the-master 127.0.0.1 {self.master.port} 1",
            "sentinel down-after-milliseconds the-master 500",
            "sentinel failover-timeout the-master 2000",
            sentinel=True,
        )

    def start(self) -> Sentinels:
        self.master.start()
        self.replica.start()
        until(lambda: self.replica.client().info("replication")["master_link_status"] == "up")
        self.sentinel.start()
        until(lambda: self.sentinel.client().execute_command("SENTINEL REPLICAS the-master"))
        return self

    def kill(self) -> None:
        for server in (self.sentinel, self.replica, self.master):
            server.kill()


def certificates(folder: Path) -> dict[str, str]:
    """A certificate authority of the test's own, and a certificate of it for 127.0.0.1."""
    names = {name: str(folder / name) for name in ("ca.key", "ca.crt", "server.key", "server.csr", "server.crt", "ext")}
    Path(names["ext"]).write_text("subjectAltName=IP:127.0.0.1\n")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    authority = ["-x509", "-subj", "/CN=test authority", "-keyout", names["ca.key"], "-out", names["ca.crt"]]
    asked = ["-subj", "/CN=redis", "-keyout", names["server.key"], "-out", names["server.csr"]]
    given = ["-in", names["server.csr"], "-CA", names["ca.crt"], "-CAkey", names["ca.key"], "-CAcreateserial"]
    for command in (
        ["openssl", "req", *curve, *authority],
        ["openssl", "req", *curve, *asked],
        ["openssl", "x509", "-req", *given, "-out", names["server.crt"], "-days", "2", "-extfile", names["ext"]],
    ):
        subprocess.run(command, check=True, capture_output=True)
    return names
