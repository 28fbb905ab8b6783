#!/usr/bin/env python3
"""Clients that mean harm, and beside them one that does not: what it waits, what the gateway needs, who is cut off.

    benches/floods.py [-s SECONDS] [--proxy gateway|nginx] [ATTACK]...

For each attack a gateway of its own, 200 requests a second by a calm probe without the attack and then with it. `ratio` is the
99th percentile with over that without, before and after; `memory` what the gateway has grown to; `cut off` how many of the
attacker's connections the gateway ended, of how many there were; `sent` what the attackers got rid of in a second.

The gateway has one worker and the first processor, and all others the second, where the probe and its backend are real-time tasks
and the attackers idle ones, which send as much as is left of it: they would be other machines, and it is the gateway whom the probe
is to wait for. (By nice values alone the kernel lets an attacker finish its slice of 3 ms.) Everything is on loopback. Fails where
the ratio is above 3, a request of the probe fails, or memory above 512 MiB. Which clients are cut off when, tests/limits.rs says
without a clock.
"""

import argparse
import multiprocessing
import os
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "interop"))
from common import *  # noqa: E402,F403 frames of HTTP/2, the gateway

HEAVY = """
[pools.heavy]
backends = ["http://127.0.0.1:%d"]
health = "off"
[[routes]]
pool = "web"
[[routes]]
path_prefix = "/heavy"
pool = "heavy"
"""
PROBES_PER_SECOND = 200
MOST_MEMORY = 512


# -- the backends: nginx, which is not what is measured, and for websockets one that switches protocols and is silent


def serve(port):
    folder = tempfile.mkdtemp()
    Path(folder, "big").touch()
    os.truncate(f"{folder}/big", 1 << 30)
    os.chmod(folder, 0o755)
    Path(folder, "nginx.conf").write_text(f"""
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/errors crit;
events {{ worker_connections 20000; }}
http {{
    access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    server {{
        listen 127.0.0.1:{port} backlog=4096; client_max_body_size 0;
        location = /heavy/big {{ alias {folder}/big; }}
        location = /heavy/upload {{ proxy_pass http://127.0.0.1:{port}/; }}
        location / {{ return 200 "ok"; }}
    }}
}}""")
    return subprocess.Popen(["nginx", "-e", f"{folder}/errors", "-c", f"{folder}/nginx.conf"]), folder


def workers(pid):
    return map(int, subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split())


def switch(listener):
    streams = []
    while True:
        streams.append(listener.accept()[0])
        streams[-1].recv(4096)
        streams[-1].sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")


class Nginx:
    """nginx as a proxy, with the gateway's limits where it has them, for comparison."""

    def __init__(self, port, theirs, encrypted, websockets):
        # Without TLS it does not speak both protocols at one port.
        self.address, self.http2 = ("127.0.0.1", free_port()), ("127.0.0.1", free_port())
        self.folder = tempfile.TemporaryDirectory()
        folder = self.folder.name
        os.chmod(folder, 0o755)
        if encrypted:
            certificate(folder)
        tls = f"ssl http2; ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem" if encrypted else ""
        Path(folder, "nginx.conf").write_text(f"""
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/errors crit; worker_rlimit_nofile 100000;
events {{ worker_connections 30000; }}
http {{
    access_log off; keepalive_requests 1000000000; proxy_http_version 1.1; proxy_set_header Connection ""; client_max_body_size 0;
    client_header_timeout 3s; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; proxy_max_temp_file_size 0;
    upstream web {{ server 127.0.0.1:{port}; keepalive 256; }}
    upstream heavy {{ server 127.0.0.1:{theirs}; keepalive 256; }}
    server {{
        listen {self.address[1]} backlog=1024 {tls};
        listen {self.http2[1]} backlog=1024 http2;
        location / {{ proxy_pass http://web; }}
        location /heavy {{
            proxy_pass http://heavy; proxy_request_buffering off;
            {"proxy_set_header Connection upgrade; proxy_set_header Upgrade websocket;" if websockets else ""}
        }}
    }}
}}""")
        self.process = subprocess.Popen(["nginx", "-e", f"{folder}/errors", "-c", f"{folder}/nginx.conf"])
        time.sleep(0.5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()

    def memory(self, _):
        status = "".join(Path(f"/proc/{pid}/status").read_text() for pid in workers(self.process.pid))
        return sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


# -- the probe


def probe(address, tls, seconds):
    """The times of as many requests as fit, in milliseconds, and how many failed: one connection, kept."""
    times, failed, stream = [], 0, None
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    begin = time.monotonic()
    for number in range(int(seconds * PROBES_PER_SECOND)):
        time.sleep(max(0, begin + number / PROBES_PER_SECOND - time.monotonic()))
        if time.monotonic() > begin + seconds:
            break
        at = time.monotonic()
        try:
            if stream is None:
                stream = socket.create_connection(address, 5)
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                stream = tls.wrap_socket(stream) if tls else stream
            stream.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = stream.recv(4096)
            while not answer.endswith(b"ok"):
                piece = stream.recv(4096)
                if not piece:
                    raise OSError("closed")
                answer += piece
            failed += not answer.startswith(b"HTTP/1.1 200 ")
        except OSError:
            failed, stream = failed + 1, None
        times.append((time.monotonic() - at) * 1000)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return sorted(times), failed


def p99(times):
    return times[int(len(times) * 0.99)]


# -- attackers of which each sends as fast as it can


class Flood:
    """Connections that send `opening` and then, again and again, what `more` makes of a running number."""

    def __init__(self, opening, more, connections=8, tls=None):
        self.opening, self.more, self.connections, self.tls = opening, more, connections, tls

    def run(self, address, until, report):
        counts = {"opened": 0, "cut": 0, "sent": 0}
        threads = [threading.Thread(target=self.attack, args=(address, until, counts)) for _ in range(self.connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        report.put(counts)

    def attack(self, address, until, counts):
        # Whoever is cut off comes back at once.
        while time.monotonic() < until:
            try:
                stream = socket.create_connection(address, 5)
                counts["opened"] += 1
                ended = threading.Event()
                threading.Thread(target=self.drain, args=(stream, ended), daemon=True).start()
                stream.sendall(self.opening)
                number = 0
                while time.monotonic() < until and not ended.is_set():
                    data = self.more(number)
                    if not data:
                        ended.wait(0.05)
                    stream.sendall(data)
                    number, counts["sent"] = number + 1, counts["sent"] + len(data)
                if not ended.is_set():
                    stream.close()
                    return
            except OSError:
                pass
            if time.monotonic() < until:
                counts["cut"] += 1
            stream.close()

    @staticmethod
    def drain(stream, ended):
        try:
            while stream.recv(1 << 16):
                pass
        except OSError:
            pass
        ended.set()


class Crowd:
    """Many connections that each send `opening`, and `drip` once a second. They read nothing."""

    def __init__(self, opening, drip=b"", connections=1000):
        self.opening, self.drip, self.connections = opening, drip, connections

    def run(self, address, until, report):
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        streams, cut = [], 0
        for _ in range(self.connections):
            try:
                stream = socket.socket()
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                stream.connect(address)
                stream.sendall(self.opening)
                stream.setblocking(False)
                streams.append(stream)
            except OSError:
                cut += 1
        opened = len(streams)
        while time.monotonic() < until:
            for stream in list(streams):
                try:
                    if self.drip:
                        stream.send(self.drip)
                    elif stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or stream.recv(1, socket.MSG_PEEK) == b"":
                        raise OSError("closed")
                except BlockingIOError:
                    pass
                except OSError:
                    streams.remove(stream)
                    cut += 1
            time.sleep(min(1, max(0, until - time.monotonic())))
        report.put({"opened": opened, "cut": cut, "sent": 0})


class Handshakes:
    """Connections that begin TLS, over and over, and want nothing else."""

    def run(self, address, until, report):
        context, opened = ssl._create_unverified_context(), 0
        while time.monotonic() < until:
            try:
                with socket.create_connection(address, 5) as stream, context.wrap_socket(stream):
                    opened += 1
            except OSError:
                pass
        report.put({"opened": opened, "cut": 0, "sent": 0})


def streams(each, count=500):
    """What `each` makes of a stream, for `count` streams, of which the numbers go on."""

    def more(number):
        first = 1 + 2 * count * number
        return b"".join(map(each, range(first, first + 2 * count, 2)))

    return more


def fields(count):
    return b"".join(field(f"x-{number}", "1") for number in range(count))


# 4000 bytes into the table of HPACK, and 1000 times what is there.
BOMB = get(1, more=b"@\x01x" + b"\x7f\xa1\x1e" + b"x" * 4000)
SHOTS = streams(lambda stream: get(stream, more=b"\xbe" * 1000), 20)
UPLOAD = get(1, "/heavy/upload", flags=END_HEADERS, method=b"\x83")
WEBSOCKET = b"GET /heavy HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"

ATTACKS = {
    "slow heads": Crowd(b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"x", 10_000),
    "slow bodies": Crowd(b"POST /heavy/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", connections=1000),
    "slow readers": Crowd(b"GET /heavy/big HTTP/1.1\r\nHost: a\r\n\r\n", connections=500),
    "slow readers h2": Crowd(PREFACE + b"".join(get(n, "/heavy/big") for n in range(1, 201, 2)), connections=50),
    "zero window": Crowd(
        PREFACE + frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0") + b"".join(get(n, "/heavy/big") for n in range(1, 201, 2)),
        frame(PING, 0, 0, bytes(8)),
        50,
    ),
    "half-open websockets": Crowd(WEBSOCKET, connections=1000),
    "rapid reset": Flood(PREFACE, streams(lambda n: get(n) + frame(RESET, 0, n, b"\0\0\0\x08"))),
    "made you reset": Flood(PREFACE, streams(lambda n: get(n) + frame(WINDOW_UPDATE, 0, n, bytes(4)))),
    "made you reset, headers": Flood(PREFACE, streams(lambda n: get(n, method=b"\x82\x82"))),
    "continuation": Flood(PREFACE + get(1, flags=END_STREAM), lambda _: frame(CONTINUATION, 0, 1, fields(9)) * 500),
    "continuation, empty": Flood(PREFACE + get(1, flags=END_STREAM), lambda _: frame(CONTINUATION, 0, 1) * 5000),
    "settings": Flood(PREFACE, lambda _: frame(SETTINGS, 0, 0, b"\0\4\0\0\xff\xff") * 4000),
    "ping": Flood(PREFACE, lambda _: frame(PING, 0, 0, bytes(8)) * 4000),
    "priority": Flood(PREFACE, lambda _: frame(PRIORITY, 0, 3, b"\0\0\0\1\1") * 4000),
    "window update": Flood(PREFACE, lambda n: frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") * 4000),
    "unknown frames": Flood(PREFACE, lambda _: frame(0x99) * 6000),
    "empty data": Flood(PREFACE + UPLOAD, lambda _: frame(DATA, 0, 1) * 6000),
    "padding": Flood(PREFACE + UPLOAD, lambda _: frame(DATA, 8, 1, b"\xff" + bytes(255)) * 250),
    "hpack bomb": Flood(PREFACE + BOMB, lambda n: SHOTS(n + 1)),
    "many small headers": Flood(PREFACE, streams(lambda n: get(n, more=fields(900)), 20)),
        "tls handshakes": Handshakes(),
}


def attack(of, address, until, report):
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    of.run(address, until, report)


def certificate(folder):
    cert, key = f"{folder}/cert.pem", f"{folder}/key.pem"
    openssl = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run([*openssl, "-keyout", key, "-out", cert, "-subj", "/CN=a", "-days", "2"], check=True, capture_output=True)
    return f'tls = {{ cert = "{cert}", key = "{key}" }}'


def main():
    options = argparse.ArgumentParser()
    options.add_argument("-s", "--seconds", type=float, default=6)
    options.add_argument("--proxy", choices=["gateway", "nginx"], default="gateway")
    options.add_argument("attacks", nargs="*", choices=[[], *ATTACKS], metavar="ATTACK")
    options = options.parse_args()
    switching = socket.create_server(("127.0.0.1", 0), backlog=1024)
    threading.Thread(target=switch, args=(switching,), daemon=True).start()
    os.sched_setaffinity(0, {1})
    # One for the probe and another for attackers: it is the gateway's time that they share, not their backend's.
    ports = free_port(), free_port()
    backends = [serve(port) for port in ports]
    os.setpriority(os.PRIO_PROCESS, backends[1][0].pid, 19)
    time.sleep(0.5)
    # This one and the probe stand for other machines: what they wait for is the proxy, and not a processor.
    for pid in workers(backends[0][0].pid):
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
    try:
        rows, bad = measure(options, *ports, switching.getsockname()[1])
    finally:
        for nginx, folder in backends:
            nginx.terminate()
            nginx.wait()
            shutil.rmtree(folder)
    table(["attack", "calm p99 ms", "under", "ratio", "slowest", "probes", "failed", "memory MiB", "cut off", "MB/s sent", ""], rows)
    sys.exit(bool(bad))


def measure(options, port, theirs, switching):
    rows, bad = [], 0
    for name in options.attacks or ATTACKS:
        with tempfile.TemporaryDirectory() as folder:
            encrypted = name.startswith("tls")
            tls = ssl._create_unverified_context() if encrypted else None
            server, limits = certificate(folder) if encrypted else "", 'max_connections = 12000\nheader_read_timeout = "3s"'
            websockets = "websocket" in name
            heavy = switching if websockets else theirs
            os.sched_setaffinity(0, {0})
            if options.proxy == "nginx":
                proxy = Nginx(port, heavy, encrypted, websockets)
            else:
                proxy = Gateway(port, server=f"workers = 1\n{server}", limits=limits, more=HEAVY % heavy)
            speaks_http2 = getattr(ATTACKS[name], "opening", b"").startswith(PREFACE)
            attacked = proxy.http2 if speaks_http2 and options.proxy == "nginx" else proxy.address
            os.sched_setaffinity(0, {1})
            with proxy as gateway:
                calm, _ = probe(gateway.address, tls, options.seconds)
                report = multiprocessing.Queue()
                until = time.monotonic() + options.seconds + 1
                attacker = multiprocessing.Process(target=attack, args=(ATTACKS[name], attacked, until, report))
                attacker.start()
                time.sleep(0.5)
                under, failed = probe(gateway.address, tls, options.seconds)
                counts = report.get(timeout=60)
                attacker.join()
                memory = gateway.memory("VmHWM")
                # What else the machine does comes and goes: calm is before and after.
                after, failed_after = probe(gateway.address, tls, options.seconds)
                calm = sorted(calm + after)
        ratio = p99(under) / p99(calm)
        well = ratio <= 3 and not failed and not failed_after and memory < MOST_MEMORY
        bad += not well
        rows.append([
            name, f"{p99(calm):.2f}", f"{p99(under):.2f}", f"{ratio:.1f}", f"{under[-1]:.1f}", len(under), failed + failed_after,
            f"{memory:.0f}", f"{counts['cut']} of {counts['opened']}", f"{counts['sent'] / 1e6 / (options.seconds + 1):.0f}", "ok" if well else "BAD",
        ])
        print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    return rows, bad


if __name__ == "__main__":
    main()
