#!/usr/bin/env python3
"""gRPC's interoperability cases by grpcio, directly and through the gateway with HTTP/2 to its backend.

    benches/interop/grpc_calls.py

Messages are bytes, so nothing has to be generated. Fails where a case does.
"""

import concurrent.futures
import sys
import threading
import time

import grpc
from common import Gateway, free_port, table

LARGE = 271_828
SERVICE = "/interop.Test/"


class Service(grpc.GenericRpcHandler):
    """Echoes, with what the interoperability tests ask of a server."""

    def __init__(self):
        self.cancelled = threading.Event()

    def service(self, call):
        does = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Upload": grpc.stream_unary_rpc_method_handler(self.upload),
            "Download": grpc.unary_stream_rpc_method_handler(self.download),
            "PingPong": grpc.stream_stream_rpc_method_handler(self.ping_pong),
            "Sleep": grpc.unary_unary_rpc_method_handler(self.sleep),
            "Wait": grpc.unary_stream_rpc_method_handler(self.wait),
            "Status": grpc.unary_unary_rpc_method_handler(self.status),
            "TimeLeft": grpc.unary_unary_rpc_method_handler(lambda _, context: str(context.time_remaining()).encode()),
        }
        return does.get(call.method.removeprefix(SERVICE))

    def metadata(self, context):
        told = dict(context.invocation_metadata())
        if "x-initial" in told:
            context.send_initial_metadata([("x-initial", told["x-initial"])])
        if "x-trailing-bin" in told:
            context.set_trailing_metadata([("x-trailing-bin", told["x-trailing-bin"])])

    def unary(self, request, context):
        self.metadata(context)
        return request

    def upload(self, requests, context):
        return str(sum(map(len, requests))).encode()

    def download(self, request, context):
        for size in request.decode().split(","):
            yield bytes(int(size))

    def ping_pong(self, requests, context):
        self.metadata(context)
        yield from requests

    def sleep(self, request, context):
        time.sleep(float(request))
        return request

    def wait(self, request, context):
        context.add_callback(self.cancelled.set)
        yield b"first"
        self.cancelled.wait(10)

    def status(self, request, context):
        code, _, words = request.decode().partition(" ")
        context.abort(next(each for each in grpc.StatusCode if each.value[0] == int(code)), words)


def fails(call, *codes):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() in codes, f"{error.code()} {error.details()!r}"
        return error
    raise AssertionError("it did not fail")


class Cases:
    """Each is a case of grpc/grpc's doc/interop-test-descriptions.md, or one beside them."""

    def __init__(self, address, service):
        self.address, self.server = address, service
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.channel = grpc.insecure_channel(address, options)

    def unary(self, method="Unary"):
        return self.channel.unary_unary(SERVICE + method)

    def ping_pong(self):
        return self.channel.stream_stream(SERVICE + "PingPong")

    def empty_unary(self):
        assert self.unary()(b"", timeout=10) == b""

    def large_unary(self):
        assert self.unary()(b"x" * LARGE, timeout=10) == b"x" * LARGE

    def very_large_unary(self):
        assert self.unary()(b"x" * (32 << 20), timeout=60) == b"x" * (32 << 20)

    def client_streaming(self):
        sizes = [27182, 8, 1828, 45904]
        assert self.channel.stream_unary(SERVICE + "Upload")(map(bytes, sizes), timeout=10) == str(sum(sizes)).encode()

    def server_streaming(self):
        sizes = [31415, 9, 2653, 58979]
        answers = self.channel.unary_stream(SERVICE + "Download")(",".join(map(str, sizes)).encode(), timeout=10)
        assert [len(answer) for answer in answers] == sizes

    def ping_pong_by_turns(self):
        said = threading.Semaphore(0)

        def requests():
            for size in [27182, 8, 1828, 45904]:
                yield bytes(size)
                # The next only when the answer to this one is there.
                assert said.acquire(timeout=10)

        sizes = []
        for answer in self.ping_pong()(requests(), timeout=20):
            sizes.append(len(answer))
            said.release()
        assert sizes == [27182, 8, 1828, 45904], sizes

    def empty_stream(self):
        assert list(self.ping_pong()(iter(()), timeout=10)) == []

    def custom_metadata(self):
        sent = [("x-initial", "test_initial_metadata_value"), ("x-trailing-bin", b"\xab\xab\xab\x00\xff")]
        _, call = self.unary().with_call(b"", metadata=sent, timeout=10)
        assert ("x-initial", sent[0][1]) in [tuple(each) for each in call.initial_metadata()]
        assert ("x-trailing-bin", sent[1][1]) in [tuple(each) for each in call.trailing_metadata()]
        call = self.ping_pong()(iter([b"1"]), metadata=sent, timeout=10)
        assert list(call) == [b"1"]
        assert ("x-trailing-bin", sent[1][1]) in [tuple(each) for each in call.trailing_metadata()]

    def status_code_and_message(self):
        error = fails(lambda: self.unary("Status")(b"2 test status message", timeout=10), grpc.StatusCode.UNKNOWN)
        assert error.details() == "test status message", error.details()

    def every_status_code(self):
        for code in list(grpc.StatusCode)[1:]:
            error = fails(lambda: self.unary("Status")(f"{code.value[0]} words".encode(), timeout=10), code)
            assert error.details() == "words", error.details()

    def special_status_message(self):
        words = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"
        error = fails(lambda: self.unary("Status")(f"2 {words}".encode(), timeout=10), grpc.StatusCode.UNKNOWN)
        assert error.details() == words, error.details()

    def unimplemented_method(self):
        fails(lambda: self.unary("Nothing")(b"", timeout=10), grpc.StatusCode.UNIMPLEMENTED)

    def unimplemented_service(self):
        call = self.channel.unary_unary("/interop.Nobody/Unary")
        fails(lambda: call(b"", timeout=10), grpc.StatusCode.UNIMPLEMENTED)

    def cancel_after_begin(self):
        # Had it nothing to send, it might be answered before it is cancelled.
        over = threading.Event()
        requests = (over.wait(10) for _ in range(1))
        call = self.channel.stream_unary(SERVICE + "Upload").future(requests, timeout=10)
        call.cancel()
        over.set()
        assert call.code() == grpc.StatusCode.CANCELLED

    def cancel_after_first_response(self):
        self.server.cancelled.clear()
        call = self.channel.unary_stream(SERVICE + "Wait")(b"", timeout=20)
        assert next(call) == b"first"
        call.cancel()
        fails(lambda: next(call), grpc.StatusCode.CANCELLED)
        # And the server is told.
        assert self.server.cancelled.wait(5), "the server was not told"

    def timeout_on_sleeping_server(self):
        fails(lambda: self.unary("Sleep")(b"2", timeout=0.2), grpc.StatusCode.DEADLINE_EXCEEDED)
        self.server.cancelled.clear()
        fails(lambda: list(self.channel.unary_stream(SERVICE + "Wait")(b"", timeout=0.2)), grpc.StatusCode.DEADLINE_EXCEEDED)

    def deadline_is_passed_on(self):
        left = float(self.unary("TimeLeft")(b"", timeout=10))
        # A client may round it up to a tenth.
        assert 5 < left <= 10.2, left

    def half_duplex_after_silence(self):
        def requests():
            yield b"1"
            time.sleep(3)
            yield b"2"

        assert list(self.ping_pong()(requests(), timeout=20)) == [b"1", b"2"]

    def many_at_once(self):
        calls = [self.unary().future(str(n).encode(), timeout=30) for n in range(1000)]
        assert [call.result() for call in calls] == [str(n).encode() for n in range(1000)]

    def many_messages(self):
        answers = self.ping_pong()((str(n).encode() for n in range(20_000)), timeout=60)
        assert [int(answer) for answer in answers] == list(range(20_000))


def main():
    service, port = Service(), free_port()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(64), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers([service])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    rows, failed = [], 0
    with Gateway(port, protocol="h2") as gateway:
        ways = [Cases(f"127.0.0.1:{where}", service) for where in (port, gateway.port)]
        for name in [name for name, value in vars(Cases).items() if callable(value) and name not in ("__init__", "unary", "ping_pong")]:
            row = [name]
            for way in ways:
                try:
                    getattr(way, name)()
                    row.append("ok")
                except Exception as error:
                    row.append(f"FAILED: {type(error).__name__} {error}".replace("\n", " ")[:200])
                    failed += 1
            rows.append(row)
        for way in ways:
            way.channel.close()
    server.stop(None)
    table(["case", "direct", "gateway"], rows)
    print(f"{len(rows)} cases, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
