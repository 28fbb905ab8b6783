#!/usr/bin/env python3
"""Clients that are installed, each with what it does in its own way: curl, Node, Python's http.client and h2, Java.

    benches/interop/clients.py

One that is not installed is left out, loudly. Fails where a case does.
"""

import http.client
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import h2.config
import h2.connection
import h2.events
from common import Backend, Gateway, table

BIG = 1 << 30
SUM = zlib.adler32(b"x" * 300_000, 0)


def run(*command, **more):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, **more)
    assert done.returncode == 0, f"{done.returncode} {done.stderr.strip()}"
    return done.stdout


class Curl:
    def __init__(self, port, secure, certificate, folder):
        self.url, self.secure = f"http://127.0.0.1:{port}", f"https://localhost:{secure}"
        self.certificate, self.body = certificate, Path(folder, "body")
        self.body.write_bytes(b"x" * 300_000)

    def curl(self, *arguments):
        return run("curl", "-sS", "-m", 100, *arguments)

    def each(self, *arguments, path="/"):
        for how in (["--http1.1"], ["--http1.0"], ["--http2-prior-knowledge"]):
            yield self.curl(*how, *arguments, self.url + path)
        for how in (["--http1.1"], ["--http2"], ["--tls-max", "1.2"]):
            yield self.curl("--cacert", self.certificate, *how, *arguments, self.secure + path)

    def get(self):
        for told in self.each("-o", "/dev/null", "-w", "%{http_code} %{size_download}", path="/bytes/100000"):
            assert told == "200 100000", told

    def head_and_statuses(self):
        for told in self.each("-I", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", path="/bytes/100000"):
            assert told == "200 0", told
        for status in (204, 304, 404, 500):
            for told in self.each("-o", "/dev/null", "-w", "%{http_code}", path=f"/status/{status}"):
                assert told == str(status), told

    def post(self):
        for told in self.each("--data-binary", f"@{self.body}"):
            assert told == f"POST 300000 {SUM}", told

    def chunked_upload(self):
        told = self.curl("--http1.1", "-T", self.body, "-H", "Transfer-Encoding: chunked", self.url + "/")
        assert told == f"PUT 300000 {SUM}", told

    def expect_100_continue(self):
        expects = ["--http1.1", "-H", "Expect: 100-continue", "--expect100-timeout", 10, "-T", self.body]
        assert self.curl(*expects, self.url + "/") == f"PUT 300000 {SUM}"
        # Refused before the body was sent, and the next is served.
        told = self.curl(*expects, "-X", "POST", "-o", "/dev/null", "-w", "%{http_code} %{time_total} ", self.url + "/refuse", "--next", "-sS", self.url + "/status/404", "-o", "/dev/null", "-w", "%{http_code}")
        assert told.startswith("413 ") and told.endswith("404"), told

    def a_gibibyte(self):
        for how in ("--http1.1", "--http2-prior-knowledge"):
            told = self.curl(how, "-o", "/dev/null", "-w", "%{size_download}", f"{self.url}/bytes/{BIG}")
            assert told == str(BIG), told

    def many_on_one_connection(self):
        # In the clear and at once, curl 7.88 fails with any server of HTTP/2: it asks before the connection is made.
        for how in ("--http1.1", ["--cacert", self.certificate, "--http2"]):
            url = self.url if how == "--http1.1" else self.secure
            how = [how] if how == "--http1.1" else how
            told = self.curl(*how, "-Z", "-o", "/dev/null", "-w", "%{http_code} ", f"{url}/bytes/[1-200]")
            assert told.split() == ["200"] * 200, told


NODE = """
const http2 = require('http2'), http = require('http');
const [port, size] = process.argv.slice(2).map(Number);
const session = http2.connect(`http://127.0.0.1:${port}`);
const get = path => new Promise((resolve, reject) => {
  const stream = session.request({ ':path': path });
  let status, size = 0;
  stream.on('response', headers => status = headers[':status']).on('data', data => size += data.length)
    .on('end', () => resolve(`${status} ${size}`)).on('error', reject).end();
});
const post = () => new Promise((resolve, reject) => {
  const stream = session.request({ ':path': '/', ':method': 'POST' });
  let told = '';
  stream.on('data', data => told += data).on('end', () => resolve(told)).on('error', reject);
  for (let n = 0; n < 3; n++) stream.write('x'.repeat(size / 3));
  stream.end();
});
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
const plain = () => new Promise((resolve, reject) => http.get({ port, agent, host: '127.0.0.1', path: '/bytes/1000' },
  answer => { let size = 0; answer.on('data', data => size += data.length).on('end', () => resolve(size)); }).on('error', reject));
(async () => {
  const all = await Promise.all([...Array(300).keys()].map(n => get(`/bytes/${n}`)));
  if (!all.every((told, n) => told === `200 ${n}`)) throw new Error(all.join());
  console.log(await get('/chunked/5000000'), await post());
  const cancelled = session.request({ ':path': '/endless' });
  await new Promise(resolve => cancelled.once('data', () => { cancelled.close(http2.constants.NGHTTP2_CANCEL); resolve(); }));
  console.log(await get('/bytes/1'));
  const sizes = await Promise.all([...Array(300)].map(plain));
  console.log(sizes.every(size => size === 1000));
  session.close(); agent.destroy();
})();
"""

JAVA = """
import java.net.URI;
import java.net.http.*;
import java.util.stream.*;
public class Client {
  public static void main(String[] arguments) throws Exception {
    for (var version : HttpClient.Version.values()) {
      var client = HttpClient.newBuilder().version(version).build();
      var base = "http://127.0.0.1:" + arguments[0];
      // Over HTTP/2 it first asks for h2c, which is left unanswered by a proxy that has a choice.
      var get = HttpRequest.newBuilder(URI.create(base + "/bytes/100000")).build();
      var got = client.send(get, HttpResponse.BodyHandlers.ofByteArray());
      var post = HttpRequest.newBuilder(URI.create(base + "/")).POST(HttpRequest.BodyPublishers.ofString("x".repeat(300000))).build();
      var told = client.send(post, HttpResponse.BodyHandlers.ofString()).body();
      var many = IntStream.range(0, 100).mapToObj(n -> client.sendAsync(get, HttpResponse.BodyHandlers.ofByteArray())).collect(Collectors.toList());
      var well = many.stream().allMatch(each -> each.join().body().length == 100000);
      System.out.println(got.statusCode() + " " + got.body().length + " " + told + " " + well);
    }
  }
}
"""


class Others:
    def __init__(self, port, folder):
        self.port, self.folder = port, Path(folder)

    def node_http2(self):
        script = self.folder / "client.js"
        script.write_text(NODE)
        told = run("node", script, self.port, 300_000).splitlines()
        assert told == [f"200 5000000 POST 300000 {SUM}", "200 1", "true"], told

    def java_http_client(self):
        source = self.folder / "Client.java"
        source.write_text(JAVA)
        told = run("java", source, self.port).splitlines()
        assert told == [f"200 100000 POST 300000 {SUM} true"] * 2, told

    def python_http_client(self):
        client = http.client.HTTPConnection("127.0.0.1", self.port)
        for number in range(200):
            client.request("GET", f"/bytes/{number}")
            assert len(client.getresponse().read()) == number
        client.request("POST", "/", body=iter([b"x" * 100_000] * 3), encode_chunked=True)
        assert client.getresponse().read() == f"POST 300000 {SUM}".encode()

    def python_h2(self):
        with socket.create_connection(("127.0.0.1", self.port), 20) as stream:
            client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
            client.initiate_connection()
            for number in range(50):
                path = f"/bytes/{number * 1000}"
                pseudo = {":method": "GET", ":scheme": "http", ":authority": "a", ":path": path}
                client.send_headers(1 + 2 * number, list(pseudo.items()), end_stream=True)
            stream.sendall(client.data_to_send())
            sizes, ended = {}, 0
            while ended < 50:
                for event in client.receive_data(stream.recv(1 << 16)):
                    if isinstance(event, h2.events.DataReceived):
                        sizes[event.stream_id] = sizes.get(event.stream_id, 0) + len(event.data)
                        if event.flow_controlled_length:
                            client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    ended += isinstance(event, h2.events.StreamEnded)
                stream.sendall(client.data_to_send())
        assert all(sizes.get(1 + 2 * number, 0) == number * 1000 for number in range(50)), sizes


NEEDS = {"node_http2": "node", "java_http_client": "java"}


def main():
    rows, failed = [], 0
    with tempfile.TemporaryDirectory() as folder, Backend() as backend:
        certificate, key = f"{folder}/cert.pem", f"{folder}/key.pem"
        new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -days 2".split()
        run("openssl", *new, "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate)
        tls = f'tls = {{ cert = "{certificate}", key = "{key}" }}'
        with Gateway(backend.port) as gateway, Gateway(backend.port, server=tls) as secure:
            for cases in (Curl(gateway.port, secure.port, certificate, folder), Others(gateway.port, folder)):
                for name, case in vars(type(cases)).items():
                    if name.startswith("_") or name in ("curl", "each"):
                        continue
                    if not shutil.which(NEEDS.get(name, "curl")):
                        print(f"{name}: LEFT OUT, {NEEDS[name]} is not installed", file=sys.stderr)
                        continue
                    try:
                        case(cases)
                        told = "ok"
                    except Exception as error:
                        told = f"FAILED: {type(error).__name__} {error}".replace("\n", " ")[:300]
                        failed += 1
                    rows.append([type(cases).__name__, name, told])
    table(["client", "case", ""], rows)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
