"""A WebSocket server and client from another hand (websockets), with the gateway between them.

Prints the server's port, reads the gateway's address, runs one check by name, and exits with 0 where it holds.
"""

import asyncio
import os
import sys

import websockets

# A step that takes longer hangs.
STEP_S = 20


async def serve(connection):
    async for message in connection:
        if message == "goodbye":
            await connection.close(4001, "told to")
            return
        await connection.send(message)


async def echo(connect):
    async with connect() as connection:
        for number in range(100):
            await connection.send(f"message {number}")
            assert await connection.recv() == f"message {number}"
        large = os.urandom(1 << 20)
        await connection.send(large)
        assert await connection.recv() == large


async def ping(connect):
    async with connect() as connection:
        await (await connection.ping(b"are you there"))


async def close_code(connect):
    async with connect() as connection:
        await connection.send("goodbye")
        await connection.wait_closed()
        assert (connection.close_code, connection.close_reason) == (4001, "told to"), connection.close_code


async def subprotocol(connect):
    async with connect() as connection:
        assert connection.subprotocol == "second", connection.subprotocol


CHECKS = [echo, ping, close_code, subprotocol]


async def main():
    check = {check.__name__: check for check in CHECKS}[sys.argv[1]]
    limits = dict(max_size=4 << 20)
    async with websockets.serve(serve, "127.0.0.1", 0, subprotocols=["second"], **limits) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        gateway = await asyncio.to_thread(sys.stdin.readline)
        url, offered = f"ws://{gateway.strip()}/chat", ["first", "second"]
        connect = lambda: websockets.connect(url, subprotocols=offered, proxy=None, **limits)
        await asyncio.wait_for(check(connect), STEP_S)


if __name__ == "__main__":
    asyncio.run(main())
