"""A real server on the loopback address that gives a file, well or badly: what goes wrong is a list of answers.

Each request takes the next answer; the last one stays. An answer is a function of the handler, as those below make
them. With a certificate the server speaks https; to CONNECT it answers as a proxy, which always leads to one target.
"""

import datetime
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ETAG = '"1"'
PROXIED_HOST = "archive.invalid"  # a name that no resolver knows


@dataclass(frozen=True)
class Asked:
    """What came in."""

    method: str
    path: str
    headers: Message


class Handler(BaseHTTPRequestHandler):
    """Keeps a record of the request, then lets the next answer speak."""

    protocol_version = "HTTP/1.1"
    server: "FileServer"

    def do_GET(self) -> None:
        self.server.asked.append(Asked(self.command, self.path, self.headers))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        self.close_connection = True
        answer(self)

    def do_CONNECT(self) -> None:
        self.server.asked.append(Asked(self.command, self.path, self.headers))
        if not self.server.target:
            self.head(407, {"Content-Length": "0"})
            return
        self.head(200, {})
        with socket.create_connection(self.server.target) as there:
            Thread(target=pour, args=(self.connection, there), daemon=True).start()
            pour(there, self.connection)
        self.close_connection = True

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """The tests' own output is enough."""


Answer = Callable[[Handler], None]


class FileServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, answers: list[Answer], context: ssl.SSLContext | None, target: tuple[str, int] | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.target = answers, target
        self.asked: list[Asked] = []
        self.closing = Event()
        self.scheme = "https" if context else "http"
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def url(self, path: str = "set.zip") -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}/{path}"

    @property
    def ranges(self) -> list[str | None]:
        """What each request asked for."""
        return [asked.headers["Range"] for asked in self.asked]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is part of the game."""


@contextmanager
def serving(
    *answers: Answer, context: ssl.SSLContext | None = None, target: tuple[str, int] | None = None
) -> Iterator[FileServer]:
    """The server while it runs.

    Args:
        target: where CONNECT leads; without one it is refused.
    """
    server = FileServer(list(answers), context, target)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def gives(
    content: bytes,
    *,
    cut_after: int | None = None,
    stall_after: int | None = None,
    slow_s: float = 0.0,
    etag: str = ETAG,
    modified: str = "",
    ranges: bool = True,
    announced: int | None = None,
    length: bool = True,
    chunked: bool = False,
    kind: str = "application/zip",
) -> Answer:
    """The file, or what is asked of it.

    Args:
        cut_after: bytes of an answer, after which the connection goes; `stall_after` likewise, it stays but is silent.
        slow_s: pause after each 4 kB.
        announced: content length, if not the true one.
    """

    def answer(handler: Handler) -> None:
        first = _first(handler, etag, modified, len(content)) if ranges else 0
        if first >= len(content) > 0:
            handler.head(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
            return
        body = content[first:]
        headers = {"Content-Type": kind, "ETag": etag, "Last-Modified": modified}
        if length and not chunked:
            headers["Content-Length"] = str(len(body) if announced is None else announced)
        if chunked:
            headers["Transfer-Encoding"] = "chunked"
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        handler.head(206 if first else 200, {name: value for name, value in headers.items() if value})
        _send(handler, body, cut_after, stall_after, slow_s, chunked)

    return answer


def _first(handler: Handler, etag: str, modified: str, length: int) -> int:
    """The byte from which the client wants the file, if it still is the file that the client knows."""
    wanted, condition = handler.headers["Range"], handler.headers["If-Range"]
    if not wanted or condition not in (None, etag, modified):
        return 0
    return int(wanted.removeprefix("bytes=").removesuffix("-"))


def _send(
    handler: Handler, body: bytes, cut_after: int | None, stall_after: int | None, slow_s: float, chunked: bool
) -> None:
    sent = body[: min(cut_after if cut_after is not None else len(body), stall_after or len(body))]
    for at in range(0, len(sent), 4096):
        block = sent[at : at + 4096]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(block), block) if chunked else block)
        handler.wfile.flush()
        if slow_s:
            handler.server.closing.wait(slow_s)
    if stall_after is not None:
        handler.server.closing.wait(10)
    elif chunked and cut_after is None:
        handler.wfile.write(b"0\r\n\r\n")


def says(status: int, body: bytes = b"", **headers: str) -> Answer:
    """A status; headers are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body_length = {"Content-Length": str(len(body))}

    def answer(handler: Handler) -> None:
        handler.head(status, named | body_length)
        handler.wfile.write(body)

    return answer


def redirects(target: str) -> Answer:
    return says(302, Location=target)


def hangs_up(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def pour(source: socket.socket, target: socket.socket) -> None:
    """All that comes from one into the other."""
    try:
        while block := source.recv(1 << 16):
            target.sendall(block)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def certificate(folder: Path) -> Path:
    """A self-signed certificate and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    hosts = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName(PROXIED_HOST)]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "server.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def context_of(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
