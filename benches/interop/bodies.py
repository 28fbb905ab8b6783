#!/usr/bin/env python3
"""Bodies of any size, and without an end, through the gateway, and what memory that takes.

    benches/interop/bodies.py [GIB]

Fails where bytes are missing, memory grows with the body, or a backend goes on sending to a client that has stopped reading.
"""

import socket
import subprocess
import sys
import tempfile
import time

from common import PREFACE, Backend, Gateway, get, table

GIB = int(sys.argv[1]) if len(sys.argv) > 1 else 5
# What a body may take beside what the gateway has anyway.
MOST = 32


def curl(*arguments):
    return subprocess.run(["curl", "-sS", *map(str, arguments)], capture_output=True, text=True, check=True, timeout=600).stdout


def main():
    rows, bad = [], 0
    with Backend() as backend:
        for name, protocol in [("HTTP/1.1", "--http1.1"), ("HTTP/2", "--http2-prior-knowledge")]:
            size = GIB << 30
            for way in ["download", "chunked download", "upload", "chunked upload"]:
                with Gateway(backend.port) as gateway:
                    url, before = f"http://127.0.0.1:{gateway.port}", gateway.memory("VmHWM")
                    began = time.monotonic()
                    if way.endswith("download"):
                        kind = "chunked" if way.startswith("chunked") else "bytes"
                        went = int(curl(protocol, "-o", "/dev/null", "-w", "%{size_download}", f"{url}/{kind}/{size}"))
                    else:
                        chunked = ["-H", "Transfer-Encoding: chunked"] if way.startswith("chunked") else []
                        with tempfile.NamedTemporaryFile() as zeros:
                            # It takes no room: nothing is in it.
                            zeros.truncate(size)
                            told = curl(protocol, "-T", zeros.name, *chunked, f"{url}/")
                        went = int(told.split()[1])
                    grew = gateway.memory("VmHWM") - before
                    ok = went == size and grew < MOST
                    bad += not ok
                    rate = went / (1 << 20) / (time.monotonic() - began)
                    rows.append([name, way, f"{went / (1 << 30):g} GiB", f"{rate:.0f} MiB/s", f"+{grew:.1f} MiB", "ok" if ok else "BAD"])
        for name, hello in [
            ("HTTP/1.1", b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("HTTP/2", PREFACE + get(1, "/endless")),
        ]:
            with Gateway(backend.port) as gateway, socket.create_connection(gateway.address) as client:
                before = gateway.memory("VmHWM")
                client.sendall(hello)
                client.recv(1000)
                time.sleep(3)
                first = backend.sent
                time.sleep(3)
                grew = gateway.memory("VmHWM") - before
                ok = 0 < first == backend.sent < 64 << 20 and grew < MOST
                bad += not ok
                sent = f"{backend.sent / (1 << 20):.1f} MiB"
                rows.append([name, "endless, not read", sent, "stopped" if first == backend.sent else "GOES ON", f"+{grew:.1f} MiB", "ok" if ok else "BAD"])
    table(["client", "body", "sent", "rate", "memory", ""], rows)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
