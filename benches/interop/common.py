"""A gateway as a process, and tables. For the scripts beside this file."""

import contextlib
import http.server
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Gateway:
    """The release binary over these backends; what is said in `server`, `limits` and `pool` is TOML."""

    def __init__(self, *backends, server="", limits="", pool="", protocol="http1", more=""):
        binary = os.environ.get("GATEWAY", ROOT / "target/release/examples/gateway")
        if not Path(binary).exists():
            sys.exit(f"{binary} is missing: cargo build --release --example gateway, or say where it is in GATEWAY")
        self.port = free_port()
        self.address = ("127.0.0.1", self.port)
        self.folder = tempfile.TemporaryDirectory()
        urls = ", ".join(f'"http://127.0.0.1:{backend}"' for backend in backends)
        config = Path(self.folder.name, "gateway.toml")
        config.write_text(f"""
[server]
listen = "127.0.0.1:{self.port}"
admin = "off"
log = "off"
{server}
[server.limits]
{limits}
[pools.web]
backends = [{urls}]
health = "off"
hedge = "off"
{pool}
[pools.web.upstream]
protocol = "{protocol}"
{more}
""")
        self.process = subprocess.Popen([binary, "--config", config])
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(self.address, 1):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        sys.exit("the gateway does not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.folder.cleanup()

    def memory(self, what="VmRSS"):
        """In MiB: VmRSS is now, VmHWM the most there ever was."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(what):
                return int(line.split()[1]) / 1024
        return 0.0

    def connections(self):
        """How many sockets it has, those that listen included."""
        folder = Path(f"/proc/{self.process.pid}/fd")
        links = (os.readlink(path) for path in folder.iterdir() if path.is_symlink())
        return sum(link.startswith("socket:") for link in links)


def table(head, rows):
    rows = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


class Answers(http.server.BaseHTTPRequestHandler):
    """GET /bytes/N, /chunked/N (N bytes), /status/N, /endless; POST anything is told how much it was, and of what."""

    protocol_version = "HTTP/1.1"
    PIECE = bytes(range(256)) * 4096

    def log_message(self, *_):
        pass

    def do_GET(self):
        _, kind, number = (self.path + "/0").split("/")[:3]
        left = int(number)
        self.send_response(left if kind == "status" else 200)
        length = {"bytes": left, "chunked": None, "endless": 1 << 50, "status": 0}.get(kind, 0)
        bodiless = kind == "status" and (left < 200 or left in (204, 304))
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        elif not bodiless:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command == "HEAD" or kind == "status":
            return
        self.server.sent, left = 0, left if length is None else length
        try:
            while left:
                piece = self.PIECE[:left]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if length is None else piece)
                left -= len(piece)
                self.server.sent += len(piece)
            self.wfile.write(b"0\r\n\r\n" if length is None else b"")
        except OSError:
            self.close_connection = True

    do_HEAD = do_GET

    def pieces(self):
        if self.headers["Transfer-Encoding"] == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        left = int(self.headers["Content-Length"] or 0)
        while left:
            piece = self.rfile.read(min(left, 1 << 20))
            if not piece:
                raise OSError("it ended early")
            yield piece
            left -= len(piece)

    def do_POST(self):
        if self.path == "/refuse":
            self.send_response(413)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()
            return
        size, zlib_sum = 0, 0
        for piece in self.pieces():
            size, zlib_sum = size + len(piece), zlib.adler32(piece, zlib_sum)
        told = f"{self.command} {size} {zlib_sum}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_PUT = do_POST


class Backend(http.server.ThreadingHTTPServer):
    """Serves Answers until it is left."""

    daemon_threads, request_queue_size = True, 1024

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.sent = 0
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


def frame(kind, flags=0, stream=0, payload=b""):
    """A frame of HTTP/2 (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


DATA, HEADERS, PRIORITY, RESET, SETTINGS, _, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS)


def field(name, value):
    """A literal without indexing and without Huffman (RFC 7541, section 6.2.2)."""
    assert len(name) < 127 and len(value) < 127
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def get(stream, path="/", flags=END_STREAM | END_HEADERS, method=b"\x82", more=b""):
    """The head of a request, by default a GET, of the authority a."""
    path = b"\x84" if path == "/" else b"\x04" + bytes([len(path)]) + path.encode()
    return frame(HEADERS, flags, stream, method + b"\x86" + path + b"A\x01a" + more)
