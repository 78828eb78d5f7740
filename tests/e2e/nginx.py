"""A private nginx in front of a server, and a small HTTP proxy: what stands between a user and ComfyUI.

nginx runs on 127.0.0.1 with a configuration, logs and temporary files of its own; the system's is left alone.
"""

from __future__ import annotations

import base64
import os
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

from tests.e2e.comfyui_server import free_port

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
LIMIT = 20.0

# The defaults of a Debian package would point to folders that only the system's nginx may write to.
_CONFIG = """
daemon off;
{user}
pid {folder}/nginx.pid;
worker_processes 1;
worker_shutdown_timeout 300ms;
error_log {folder}/error.log;
events {{ worker_connections 128; }}
http {{
  client_body_temp_path {folder}/tmp-body;
  proxy_temp_path {folder}/tmp-proxy;
  fastcgi_temp_path {folder}/tmp-fastcgi;
  uwsgi_temp_path {folder}/tmp-uwsgi;
  scgi_temp_path {folder}/tmp-scgi;
  client_max_body_size 64m;
  log_format all '$server_port $status $request [$http_authorization] [$http_cookie] [$http_x_api_key] [$http_origin]';
  access_log {folder}/access.log all;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
  {http}
  server {{
    listen 127.0.0.1:{port}{ssl};
    {certificate}
    {server}
    location "{prefix}/" {{
      {location}
      proxy_pass {upstream}/;
      {proxy}
    }}
  }}
}}
"""
_PROXY = """
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header Host $http_host;
"""


class Nginx:
    """One nginx with its own configuration, ended with the `with` block.

    :param upstream: the server behind it.
    :param prefix: the path under which that is found.
    :param certificate: certificate and key: it speaks TLS then.
    :param http: lines for the http block. *server* and *location* are for theirs; `PROXY` in *server* stands for the
        lines that pass requests on to the upstream.
    """

    def __init__(
        self,
        folder: Path,
        upstream: str,
        *,
        prefix: str = "",
        certificate: tuple[Path, Path] | None = None,
        http: str = "",
        server: str = "",
        location: str = "",
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.secure = certificate is not None
        self.url = f"http{'s' if self.secure else ''}://127.0.0.1:{self.port}{prefix}"
        folder.mkdir()
        self._config = folder / "nginx.conf"
        self._config.write_text(
            _CONFIG.format(
                user="user root;" if os.geteuid() == 0 else "",
                folder=folder,
                port=self.port,
                ssl=" ssl" if certificate else "",
                certificate="ssl_certificate {};\n    ssl_certificate_key {};".format(*certificate)
                if certificate
                else "",
                http=http,
                server=server.replace("PROXY", f"proxy_pass {upstream}; {_PROXY}"),
                location=location,
                prefix=unquote(prefix),
                upstream=upstream,
                proxy=_PROXY,
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Nginx:
        assert NGINX is not None
        command = [NGINX, "-c", str(self._config), "-p", str(self.folder), "-e", str(self.folder / "error.log")]
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        deadline = time.monotonic() + LIMIT
        while True:
            assert self._process.poll() is None, (self.folder / "output").read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            else:
                return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(LIMIT)

    def reload(self) -> None:
        """Have it read its configuration anew: the old workers end, and with them the connections that they hold."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    @property
    def log(self) -> list[str]:
        """One line for each request: port, status, request line, then in brackets its credentials and origin."""
        path = self.folder / "access.log"
        return path.read_text().splitlines() if path.exists() else []

    def asked(self, what: str) -> list[str]:
        """The lines of requests that hold *what*."""
        return [line for line in self.log if what in line]


def _openssl(folder: Path, *words: str) -> None:
    done = subprocess.run(["openssl", *words], cwd=folder, capture_output=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr.decode()


class Authority:
    """A private certificate authority: `cacert` is its certificate, `certificate` and `key` are a server's."""

    def __init__(self, folder: Path, names: str = "IP:127.0.0.1,DNS:localhost,DNS:comfy.invalid") -> None:
        folder.mkdir()
        new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-batch")
        (folder / "authority.ext").write_text(
            "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
        )
        (folder / "server.ext").write_text(
            f"subjectAltName={names}\nbasicConstraints=CA:FALSE\nkeyUsage=digitalSignature\n"
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nextendedKeyUsage=serverAuth\n"
        )
        _openssl(folder, *new, "-keyout", "authority.key", "-out", "authority.csr", "-subj", "/CN=Test authority")
        sign = ("x509", "-req", "-days", "2")
        _openssl(
            folder, *sign, "-in", "authority.csr", "-signkey", "authority.key", "-extfile", "authority.ext",
            "-out", "authority.pem",
        )  # fmt: skip
        _openssl(folder, *new, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=Test server")
        _openssl(
            folder, *sign, "-in", "server.csr", "-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial",
            "-extfile", "server.ext", "-out", "server.pem",
        )  # fmt: skip
        _openssl(folder, *new, "-keyout", "client.key", "-out", "client.csr", "-subj", "/CN=Test client")
        _openssl(
            folder, *sign, "-in", "client.csr", "-CA", "authority.pem", "-CAkey", "authority.key", "-out", "client.pem"
        )
        self.cacert = folder / "authority.pem"
        self.pair = (folder / "server.pem", folder / "server.key")
        self.client_pair = (folder / "client.pem", folder / "client.key")


class _ProxyHandler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.0"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name that it has there
        pass

    def _allowed(self) -> bool:
        self.server.asked.append(f"{self.command} {self.path}")
        wanted = self.server.credentials
        given = self.headers.get("Proxy-Authorization", "")
        if wanted and given != "Basic " + base64.b64encode(wanted.encode()).decode():
            self.send_error(407)
            return False
        return True

    def do_CONNECT(self) -> None:
        if not self._allowed():
            return
        with socket.create_connection(("127.0.0.1", self.server.target), timeout=LIMIT) as far:
            self.send_response(200)
            self.end_headers()
            near = self.connection
            while True:
                readable, _, _ = select.select([near, far], [], [])
                for one, other in ((near, far), (far, near)):
                    if one in readable:
                        data = one.recv(65536)
                        if not data:
                            return
                        other.sendall(data)

    def _forward(self) -> None:
        if not self._allowed():
            return
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
        far = HTTPConnection("127.0.0.1", self.server.target, timeout=LIMIT)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        far.request(self.command, target, body, {**headers, "Connection": "close"})
        answer = far.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.getheader("Content-Type", "text/plain"))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        far.close()

    do_GET = _forward  # noqa: N815  the names that the base class looks for
    do_POST = _forward  # noqa: N815


class Proxy(ThreadingHTTPServer):
    """An HTTP proxy that takes every host for 127.0.0.1:*target*; `asked` is what it was asked for."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, target: int, credentials: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _ProxyHandler)
        self.target = target
        self.credentials = credentials
        self.asked: list[str] = []
        userinfo = f"{credentials}@" if credentials else ""
        self.url = f"http://{userinfo}127.0.0.1:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
