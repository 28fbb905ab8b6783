#!/usr/bin/env python3
"""Autobahn's cases 1 to 10 against an echo server: directly, through the gateway over HTTP/1.1, and over HTTP/2 (RFC 8441).

    benches/interop/websocket.py [CASE-PREFIX]...

The cases and their verdicts are Autobahn's own, out of its package, which is written for Python 2 and runs under none that
is still to be had: what it needs of its library is here. Fails where a case does worse through the gateway than directly.
"""

import asyncio
import binascii
import codecs
import contextlib
import importlib.util
import logging
import re
import struct
import sys
import types
from collections import Counter
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.settings
import websockets.asyncio.server
import websockets.exceptions
from common import Gateway, free_port, table

# Best first. NON-STRICT is as good as OK: which of them it is depends on what the server happens to see at once.
RANK = ["OK NON-STRICT INFORMATIONAL", "UNIMPLEMENTED", "WRONG CODE", "UNCLEAN", "FAILED BY CLIENT", "FAILED"]
AT_ONCE = 12


class Utf8Validator:
    """Says whether what came is fine so far, and whether it ends between two letters."""

    def reset(self):
        self.decoder = codecs.getincrementaldecoder("utf-8")()

    def validate(self, text):
        self.reset()
        try:
            self.decoder.decode(text.encode("latin-1"))
            return True, not self.decoder.getstate()[0], 0, 0
        except UnicodeDecodeError:
            return False, False, 0, 0


class Hex:
    @staticmethod
    def b2a_hex(text):
        return binascii.b2a_hex(text.encode("latin-1")).decode()


class State:
    STATE_CLOSED, STATE_CONNECTING, STATE_CLOSING, STATE_OPEN = range(4)


def load_cases():
    """Autobahn's classes, by id. Their texts are strings of Python 2: a letter is a byte."""
    package = importlib.util.find_spec("autobahntestsuite")
    folder = Path(package.submodule_search_locations[0], "case")
    names = ["case", *re.findall(r"^from (case\d\w*) import", (folder / "__init__.py").read_text("latin-1"), re.M)]
    known = {"binascii": Hex, "Utf8Validator": Utf8Validator, "WebSocketProtocol": State, "xrange": range, "unichr": chr}
    for name in names:
        if name.startswith(("case9_9", "case12")):
            continue
        text = (folder / f"{name}.py").read_text("latin-1")
        text = text.split("if __name__")[0]
        text = re.sub(r"^(from|import) .*$", "", text, flags=re.M)
        text = re.sub(r"^(\s*)print\b.*$", r"\1pass", text, flags=re.M)
        text = text.replace("(object, Case, )", "(Case, )").replace(" / self.p.auto", " // self.p.auto")
        module = dict(known)
        exec(compile(text, name, "exec"), module)
        listed = [each for value in module.values() if isinstance(value, list) for each in value if isinstance(each, type)]
        classes = [value for value in module.values() if isinstance(value, type)]
        known.update({each.__name__: each for each in listed + classes if each.__name__.startswith("Case")})
    # Equal is equal: pickles of equal things differ where one of them has the same string twice.
    known["Case"].compare = lambda self, one, other: one == other
    cases = {name[4:].replace("_", "."): each for name, each in known.items() if re.fullmatch(r"Case\d\w*", name)}
    return dict(sorted(cases.items(), key=lambda case: [int(part) for part in case[0].split(".")]))


class Peer:
    """What a case knows as `self.p`: a client of WebSocket that does as it is told."""

    CLOSE_STATUS_CODE_NORMAL, CLOSE_STATUS_CODE_PROTOCOL_ERROR, CLOSE_STATUS_CODE_INVALID_PAYLOAD = 1000, 1002, 1007

    def __init__(self, wire, case):
        self.wire, self.factory = wire, types.SimpleNamespace(isServer=False)
        self.state, self.autoFragmentSize, self.txFrameStats = State.STATE_CONNECTING, 0, Counter()
        self.connectionWasOpen = self.closedByMe = self.failedByMe = self.droppedByMe = self.wasClean = False
        self.localCloseReason = self.remoteCloseCode = None
        self.timers, self.inside, self.message = [], bytearray(), None
        self.case = case(self)

    def enableWirelog(self, _):
        pass

    def later(self, delay, do):
        def run():
            if self.state != State.STATE_CLOSED:
                do()

        self.timers.append(asyncio.get_running_loop().call_later(delay, run))

    def continueLater(self, delay, do, tag=None):
        self.later(delay, do)

    def killAfter(self, delay):
        self.later(delay, self.fail)

    def closeAfter(self, delay):
        self.later(delay, self.sendClose)

    def fail(self):
        self.failedByMe = True
        self.drop()

    def drop(self):
        self.droppedByMe = True
        self.wire.close()

    def header(self, opcode, length, fin=True, rsv=0):
        first = bytes([fin << 7 | rsv << 4 | opcode])
        # The key is 0, which is as good as any to those who must undo it.
        if length < 126:
            return first + bytes([0x80 | length]) + bytes(4)
        if length < 1 << 16:
            return first + struct.pack(">BH", 0xFE, length) + bytes(4)
        return first + struct.pack(">BQ", 0xFF, length) + bytes(4)

    def sendFrame(self, opcode, payload="", fin=True, rsv=0, mask=None, payload_len=None, chopsize=None, sync=False):
        body = payload.encode("latin-1")
        if payload_len is not None:
            body = (body * (payload_len // max(len(body), 1) + 1))[:payload_len]
        self.txFrameStats[opcode] += 1
        frame = self.header(opcode, len(body), fin, rsv) + body
        step = chopsize or len(frame)
        for at in range(0, len(frame), step):
            self.wire.write(frame[at : at + step])

    def sendMessage(self, payload, isBinary=False, fragmentSize=None, sync=False):
        size = fragmentSize or self.autoFragmentSize or max(len(payload), 1)
        pieces = [payload[at : at + size] for at in range(0, max(len(payload), 1), size)]
        for at, piece in enumerate(pieces):
            self.sendFrame(0 if at else 2 if isBinary else 1, piece, fin=at == len(pieces) - 1)

    def beginMessage(self, isBinary=False):
        self.opcode = 2 if isBinary else 1

    def beginMessageFrame(self, length):
        self.wire.write(self.header(self.opcode, length, fin=False))
        self.opcode = 0

    def sendMessageFrameData(self, payload, sync=False):
        self.wire.write(payload.encode("latin-1"))

    def endMessage(self):
        self.sendFrame(0)

    def sendClose(self, code=None, reason=None):
        self.sendCloseFrame(code, reason)

    def sendCloseFrame(self, code=None, reasonUtf8=None, isReply=False):
        if self.state != State.STATE_OPEN:
            return
        self.state, self.closedByMe, self.localCloseReason = State.STATE_CLOSING, not isReply, reasonUtf8
        payload = "" if code is None else struct.pack(">H", code).decode("latin-1") + (reasonUtf8 or "")
        self.sendFrame(8, payload)
        self.later(2 if isReply else 10, self.drop)

    def opened(self):
        self.state, self.connectionWasOpen = State.STATE_OPEN, True
        self.case.onOpen()

    def received(self, data):
        self.inside += data
        while (frame := self.take()) and self.state != State.STATE_CLOSED:
            self.frame(*frame)

    def take(self):
        if len(self.inside) < 2:
            return None
        length, at = self.inside[1] & 0x7F, 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length, at = int.from_bytes(self.inside[2 : 2 + size]), 2 + size
        if len(self.inside) < max(at, 2) + length:
            return None
        frame = self.inside[0], bytes(self.inside[at : at + length]).decode("latin-1")
        del self.inside[: at + length]
        return frame

    def frame(self, first, payload):
        fin, opcode = first >> 7, first & 15
        if opcode == 8:
            self.remoteCloseCode = int.from_bytes(payload[:2].encode("latin-1")) if payload else None
            self.wasClean = True
            if self.state == State.STATE_OPEN:
                self.sendCloseFrame(self.remoteCloseCode or 1000, isReply=True)
            # It is the server that drops the connection; a client waits for that.
            self.later(2, self.drop)
        elif self.state != State.STATE_OPEN:
            return
        elif opcode == 9:
            self.sendFrame(10, payload)
            self.case.onPing(payload)
        elif opcode == 10:
            self.case.onPong(payload)
        else:
            if opcode:
                self.message = (opcode == 2, [])
            self.message[1].append(payload)
            if fin:
                (binary, pieces), self.message = self.message, None
                self.case.onMessage("".join(pieces), binary)

    def lost(self):
        self.state = State.STATE_CLOSED
        for timer in self.timers:
            timer.cancel()
        self.case.onConnectionLost(self.failedByMe)


UPGRADE = (
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Http1:
    @classmethod
    async def open(cls, port):
        self = cls()
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        self.writer.write(UPGRADE.encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        return self

    def write(self, data):
        if not self.writer.is_closing():
            self.writer.write(data)

    def close(self):
        self.writer.transport.abort()

    async def read(self):
        try:
            return await self.reader.read(1 << 16)
        except OSError:
            return b""


class Http2:
    """A stream of HTTP/2, opened by extended CONNECT."""

    @classmethod
    async def open(cls, port):
        self = cls()
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.events, self.outside, self.ended, self.status = [], bytearray(), False, None
        self.writer.write(self.h2.data_to_send())
        while not self.h2.remote_settings.enable_connect_protocol:
            assert await self.next(), "the server does not know RFC 8441"
        pseudo = {":method": "CONNECT", ":protocol": "websocket", ":scheme": "http", ":path": "/", ":authority": "a"}
        self.h2.send_headers(1, [*pseudo.items(), ("sec-websocket-version", "13")])
        self.writer.write(self.h2.data_to_send())
        while self.status is None:
            assert await self.next(), "there is no answer"
        assert self.status == "200", self.status
        return self

    async def next(self):
        """Takes what comes, and tells whether anything did."""
        try:
            data = await self.reader.read(1 << 16)
        except OSError:
            data = b""
        for event in self.h2.receive_data(data) if data else []:
            if isinstance(event, h2.events.ResponseReceived):
                self.status = dict(event.headers)[":status"]
            elif isinstance(event, h2.events.DataReceived):
                self.events.append(event.data)
                if event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset, h2.events.ConnectionTerminated)):
                self.ended = True
        self.flush()
        return bool(data)

    def write(self, data):
        self.outside += data
        self.flush()

    def flush(self):
        if self.writer.is_closing():
            return
        while self.outside and not self.ended:
            room = min(self.h2.local_flow_control_window(1), self.h2.max_outbound_frame_size)
            if room <= 0:
                break
            self.h2.send_data(1, bytes(self.outside[:room]))
            del self.outside[:room]
        self.writer.write(self.h2.data_to_send())

    def close(self):
        self.writer.transport.abort()

    async def read(self):
        while not self.events and not self.ended:
            if not await self.next():
                break
        data, self.events = b"".join(self.events), []
        if not data:
            self.writer.close()
        return data


async def run(case, transport, port):
    wire = await transport.open(port)
    peer = Peer(wire, case)
    peer.opened()
    while data := await wire.read():
        peer.received(data)
    peer.lost()
    wire.close()
    return peer.case.behavior, peer.case.behaviorClose


async def run_all(cases, transport, port):
    places = asyncio.Semaphore(AT_ONCE)

    async def one(case):
        async with places:
            try:
                return await asyncio.wait_for(run(case, transport, port), 300)
            except (AssertionError, asyncio.TimeoutError, OSError) as error:
                return "FAILED", f"{type(error).__name__} {error}"

    return dict(zip(cases, await asyncio.gather(*map(one, cases.values()))))


async def echo(socket):
    with contextlib.suppress(websockets.exceptions.ConnectionClosed):
        async for message in socket:
            await socket.send(message)


async def main():
    cases = {name: case for name, case in load_cases().items() if name.startswith(tuple(sys.argv[1:]) or "")}
    # What a server says about what is done to it here.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    port = free_port()
    async with websockets.asyncio.server.serve(echo, "127.0.0.1", port, max_size=None, compression=None, max_queue=None):
        with Gateway(port) as gateway:
            ways = {"direct": (Http1, port), "HTTP/1.1": (Http1, gateway.port), "RFC 8441": (Http2, gateway.port)}
            results = {way: await run_all(cases, *to) for way, to in ways.items()}

    def score(way, name):
        ranks = ([at for at, rank in enumerate(RANK) if each in rank] for each in results[way][name])
        return [rank[0] if rank else len(RANK) for rank in ranks]

    groups = sorted({name.split(".")[0] for name in cases}, key=int)
    rows = []
    for group in groups:
        names = [name for name in cases if name.split(".")[0] == group]
        counts = [Counter(results[way][name][0] for name in names) for way in ways]
        rows.append([group, len(names), *(", ".join(f"{n} {what}" for what, n in sorted(c.items())) for c in counts)])
    table(["group", "cases", *ways], rows)
    for name in cases:
        if results["direct"][name][0] == "FAILED":
            print("fails directly as well:", name)
    worse = [
        (name, way, results["direct"][name], results[way][name])
        for name in cases
        for way in ways
        if any(one > direct for one, direct in zip(score(way, name), score("direct", name)))
    ]
    for case in worse:
        print("worse:", *case)
    print(f"{len(cases)} cases, {len(worse)} worse than directly")
    sys.exit(bool(worse))


if __name__ == "__main__":
    asyncio.run(main())
