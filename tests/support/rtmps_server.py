"""A real RTMP and RTMPS server on loopback: nginx with nginx-rtmp, and TLS in front of it.

It records every publishing connection into an FLV of its own. One server has all the certificates a
client must tell apart, each on its own port. Sync: start it anywhere, its calls do not block for long
(``wait_idle`` does).
"""

from __future__ import annotations

import atexit
import datetime
import re
import shutil
import signal
import subprocess
import tempfile
import time
from enum import StrEnum
from pathlib import Path
from types import TracebackType

import trustme

from tests.support.packages import nginx_module, program
from tests.support.processes import free_ports, wait_listening


class Certificate(StrEnum):
    """What is behind each TLS port."""

    RIGHT = "right"
    WRONG_CA = "wrong-ca"
    EXPIRED = "expired"
    WRONG_HOST = "wrong-host"


class RtmpServer:
    """``with RtmpServer() as server:`` publish to ``server.url(key)`` or ``server.secure_url(key)``.

    Attributes: *rtmp_url* and *rtmps_url* (without a key), *ca_file* (PEM of the authority that the right
    certificate comes from), *rtmp_port*, *tls_ports*. Leaving the block ends nginx and removes its folder.
    """

    def __init__(self, app: str = "app") -> None:
        self.app = app
        self.folder = Path(tempfile.mkdtemp(prefix="rtmps-"))
        self.folder.chmod(0o755)
        self.rtmp_port, *tls = free_ports(1 + len(Certificate))
        self.tls_ports = dict(zip(Certificate, tls, strict=True))
        self.rtmp_url = f"rtmp://127.0.0.1:{self.rtmp_port}/{app}"
        self.rtmps_url = f"rtmps://localhost:{self.tls_ports[Certificate.RIGHT]}/{app}"
        self.ca_file = self.folder / "ca.pem"
        self._process: subprocess.Popen[bytes] | None = None
        self._cut_off = 0  # publishers that a stop disconnected: nginx does not log their end
        self._write_certificates()
        self._write_config()

    def url(self, key: str) -> str:
        """Where to push *key* without TLS."""
        return f"{self.rtmp_url}/{key}"

    def secure_url(self, key: str, certificate: Certificate = Certificate.RIGHT) -> str:
        """Where to push *key* with TLS, behind the given certificate."""
        return f"rtmps://localhost:{self.tls_ports[certificate]}/{self.app}/{key}"

    def start(self) -> None:
        """Listen again on the same ports, after ``stop``."""
        if self._process is not None:
            return
        argv = [program("nginx"), "-p", str(self.folder), "-c", "nginx.conf", "-e", "error.log"]
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        atexit.register(self.stop)
        try:
            for port in (self.rtmp_port, *self.tls_ports.values()):
                wait_listening(port)
        except AssertionError as exc:
            self.stop()
            raise AssertionError(f"nginx did not start: {self.log()[-2000:]}") from exc

    def stop(self) -> None:
        """Close the ports and every connection; recordings so far stay. Safe to call twice."""
        atexit.unregister(self.stop)
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.communicate(timeout=3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        self._cut_off = self.connections() - self._ended()

    def freeze(self) -> None:
        """Stop reading, with every connection still open (SIGSTOP), until ``thaw``."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after ``freeze``."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def recordings(self, key: str) -> list[Path]:
        """One FLV per publishing connection of *key*, in the order of their beginning.

        nginx-rtmp names them by the second: of two connections within one second only the later one is kept.
        """
        files = (self.folder / "recordings").glob("*.flv")
        pattern = re.compile(re.escape(key) + r"-(\d+)\.flv")
        found = [(int(match[1]), path) for path in files if (match := pattern.fullmatch(path.name))]
        return [path for _, path in sorted(found)]

    def connections(self, key: str | None = None) -> int:
        """How many times a client began to publish (*key*, or anything), still connected or not."""
        name = re.escape(key) if key else "[^']*"
        return len(re.findall(rf"\bpublish: name='{name}'", self.log()))

    def publishing(self, key: str) -> bool:
        """Whether a client publishes *key* just now."""
        path = self.folder / "access.log"
        ended = path.read_text(errors="replace") if path.exists() else ""
        return self.connections(key) > len(re.findall(rf'\] PUBLISH "[^"]*" "{re.escape(key)}"', ended))

    def log(self) -> str:
        """Everything nginx logged so far."""
        path = self.folder / "error.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_idle(self, timeout: float = 20.0) -> None:
        """Block until no client publishes any more, so that every recording is complete."""
        deadline = time.monotonic() + timeout
        while (live := self.connections() - self._cut_off - self._ended()) > 0:
            if time.monotonic() > deadline:
                raise AssertionError(f"{live} still publishing after {timeout:g} s")
            time.sleep(0.05)

    def __enter__(self) -> RtmpServer:
        try:
            self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ended(self) -> int:
        path = self.folder / "access.log"
        return len(re.findall(r"\] PUBLISH ", path.read_text(errors="replace"))) if path.exists() else 0

    def _write_certificates(self) -> None:
        ours, theirs = trustme.CA(), trustme.CA()
        ours.cert_pem.write_to_path(str(self.ca_file))
        hosts = ("localhost", "127.0.0.1")
        yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        issued = {
            Certificate.RIGHT: ours.issue_cert(*hosts),
            Certificate.WRONG_CA: theirs.issue_cert(*hosts),
            Certificate.EXPIRED: ours.issue_cert(*hosts, not_after=yesterday),
            Certificate.WRONG_HOST: ours.issue_cert("elsewhere.example"),
        }
        for name, cert in issued.items():
            cert.private_key_and_cert_chain_pem.write_to_path(str(self.folder / f"{name}.pem"))

    def _write_config(self) -> None:
        (self.folder / "recordings").mkdir()
        terminators = "\n".join(
            f"  server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {name}.pem; "
            f"ssl_certificate_key {name}.pem; proxy_pass 127.0.0.1:{self.rtmp_port}; }}"
            for name, port in self.tls_ports.items()
        )
        config = f"""
load_module {nginx_module("ngx_stream_module.so")};
load_module {nginx_module("ngx_rtmp_module.so")};
daemon off;
master_process off;
pid nginx.pid;
error_log error.log info;
events {{ worker_connections 256; }}
stream {{
{terminators}
}}
rtmp {{
  access_log access.log;
  server {{
    listen 127.0.0.1:{self.rtmp_port};
    chunk_size 4096;
    application {self.app} {{
      live on;
      record all;
      record_path {self.folder}/recordings;
      record_unique on;
    }}
  }}
}}
"""
        (self.folder / "nginx.conf").write_text(config)
