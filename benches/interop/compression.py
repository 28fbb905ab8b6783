#!/usr/bin/env python3
"""Compressed WebSocket (RFC 7692) directly and through the gateway: what Autobahn's groups 12 and 13 ask for, by `websockets`.

    benches/interop/compression.py [MESSAGES]

Each offer of parameters with messages of each size, so many of each (100 unless told). Fails where a message comes back changed, or
something else is agreed on through the gateway than directly.
"""

import asyncio
import json
import random
import sys

import websockets.asyncio.client
import websockets.asyncio.server
from common import Gateway, free_port, table
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory

# Group 13: whether the server keeps nothing between messages, and what it looks back on.
OFFERS = [(False, None), (True, None), (False, 9), (False, 15), (True, 9), (True, 15)]
# Group 12.
SIZES = [16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072]


def text(size, seed):
    """JSON, which is made smaller, and noise, which is not."""
    rng = random.Random(seed)
    lines = (json.dumps({"id": rng.random(), "name": "somebody", "tags": ["a", "b"]}) for _ in range(size // 40 + 1))
    return "".join(lines)[:size]


def messages(number):
    for size in SIZES:
        for seed in range(number):
            yield text(size, seed) if seed % 2 else random.Random(seed).randbytes(size)


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def agreed(port, offer, number):
    """What was agreed on, where all comes back as it was."""
    nothing_kept, bits = offer
    factory = ClientPerMessageDeflateFactory(nothing_kept, nothing_kept, bits, bits or True)
    to = f"ws://127.0.0.1:{port}/"
    async with websockets.asyncio.client.connect(to, extensions=[factory], compression=None, max_size=None) as socket:
        said = socket.response.headers.get("Sec-WebSocket-Extensions", "nothing")
        for message in messages(number):
            await socket.send(message)
            if await socket.recv() != message:
                return f"{said}, and {len(message)} bytes were changed"
        return said


async def main():
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    port, failed = free_port(), 0
    extensions = [ServerPerMessageDeflateFactory()]
    async with websockets.asyncio.server.serve(echo, "127.0.0.1", port, max_size=None, extensions=extensions):
        with Gateway(port) as gateway:
            rows = []
            for offer in OFFERS:
                direct, through = [await agreed(each, offer, number) for each in (port, gateway.port)]
                well = direct == through and direct.startswith("permessage-deflate") and "changed" not in direct
                failed += not well
                rows.append([f"{offer}", direct, "the same" if well else f"FAILED: {through}"])
    table(["offer", "direct", "gateway"], rows)
    print(f"{len(OFFERS)} offers, {len(SIZES) * number} messages each, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    asyncio.run(main())
