"""A hub on this machine: what its client asks of one for a file, and the ways in which a hub may be dead."""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from time import sleep
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RESOLVED = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/main/(?P<name>.+)")
PIECE_BYTES = 1 << 16


class Hub(ThreadingHTTPServer):
    """Like the real one it says what a file is, and sends whoever wants it to a store; xet it offers, and has not."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.files: dict[str, bytes] = {}  # owner/name/file -> content
        self.status = 200  # of all answers, unless it is this
        self.thinks_s = 0.0  # before it says of a file what it is
        self.cut_after: int | None = None  # bytes of each try
        self.stalls_at: int | None = None  # byte of the file, which is never sent
        self.stalls_once = False
        self.rest_s = 0.0  # after each piece
        self.knows_ranges = True
        self.asked: list[tuple[str, str, str | None]] = []  # path, Range, token
        self.over = Event()

    def handle_error(self, *_: object) -> None:
        """Clients that break off are what it is here for."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def store(self) -> str:
        """Another host, to whoever asks."""
        return f"http://localhost:{self.server_port}"


class _Answering(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, hub = urlsplit(self.path).path, self.server
        hub.asked.append((path, self.headers.get("Range") or "", self.headers.get("Authorization")))
        if hub.status != 200:
            return self._say(hub.status, {"X-Error-Code": "GatedRepo"} if hub.status == 403 else {})
        if path.startswith("/store/"):
            return self._send(hub.files[path.removeprefix("/store/")])
        found = RESOLVED.fullmatch(path)
        key = f"{found['repository']}/{found['name']}" if found else ""
        if key not in hub.files:
            return self._say(404, {"X-Error-Code": "EntryNotFound"} if found else {})
        if self.command == "HEAD":
            sleep(hub.thinks_s)
        return self._say(302, self._metadata(key))

    do_HEAD = do_GET

    def _metadata(self, key: str) -> dict[str, str]:
        hub, content = self.server, self.server.files[key]
        sha = sha256(content).hexdigest()
        return {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{sha}"',
            "X-Linked-Size": str(len(content)),
            "X-Xet-Hash": sha,
            "X-Xet-Refresh-Route": f"{hub.address}/xet",
            "Location": f"{hub.store}/store/{key}",
        }

    def _say(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": "0"} | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, content: bytes) -> None:
        hub, wanted = self.server, self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and hub.knows_ranges else 0
        self._say(206 if start else 200, {"Content-Length": str(len(content) - start)})
        stall, hub.stalls_at = hub.stalls_at, None if hub.stalls_once else hub.stalls_at
        end = len(content) if hub.cut_after is None else start + hub.cut_after
        self._write(content[start : end if stall is None else stall])
        if stall is not None:
            hub.over.wait(60)
        self.close_connection = True

    def _write(self, content: bytes) -> None:
        for at in range(0, len(content), PIECE_BYTES):
            self.wfile.write(content[at : at + PIECE_BYTES])
            sleep(self.server.rest_s)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running_hub() -> Iterator[Hub]:
    with Hub() as hub:
        Thread(target=hub.serve_forever, args=(0.02,), daemon=True).start()
        yield hub
        hub.over.set()
        hub.shutdown()


@contextmanager
def silent_address() -> Iterator[str]:
    """It takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


@contextmanager
def black_hole() -> Iterator[str]:
    """Its queue is full, so whoever knocks waits, as at an address that a firewall drops."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            knocking = stack.enter_context(socket.socket())
            knocking.setblocking(False)
            knocking.connect_ex(full.getsockname())
        yield f"http://127.0.0.1:{full.getsockname()[1]}"
