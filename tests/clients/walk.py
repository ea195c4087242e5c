"""A client that nobody here wrote the library of: walks every frame that docs/GATEWAY.md documents.

walk.py PORT ADA_ID ADA_TOKEN BEN_ID BEN_TOKEN
"""

import asyncio
import json
import sys
import urllib.request
import uuid

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

PORT, ADA, ADA_TOKEN, BEN, BEN_TOKEN = sys.argv[1:]
URL = f"ws://127.0.0.1:{PORT}/gateway"
CHANNEL = str(uuid.uuid4())


async def receive(socket):
    return json.loads(await asyncio.wait_for(socket.recv(), 10))


async def send(socket, op, d=None):
    await socket.send(json.dumps({"op": op, "d": d}))


async def identify(socket, token, **more):
    hello = await receive(socket)
    assert hello == {"op": 10, "d": {"heartbeat_interval": 30000}}, hello
    await send(socket, 2, {"token": token, **more})
    return await receive(socket)


async def post(path, token, body):
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", json.dumps(body).encode(), headers)
    await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=10).read())


async def update_of(socket, user):
    frame = await receive(socket)
    assert (frame["op"], frame["t"]) == (3, "PRESENCE_UPDATE"), frame
    presence = frame["d"]
    assert presence["user_id"] == user, frame
    fields = ["user_id", "status", "custom_status", "activity", "activities", "client_status", "last_seen", "version"]
    assert list(presence) == fields, frame
    return presence


async def walk():
    async with connect(URL) as ada:
        ready = await identify(ada, ADA_TOKEN, platform="desktop", status="idle")
        assert (ready["op"], ready["t"], ready["d"]["user_id"]) == (0, "READY", ADA), ready
        assert 1 <= len(ready["d"]["session_id"]) <= 64, ready

        await send(ada, 1)
        assert await receive(ada) == {"op": 11, "d": None}

        await send(ada, 14, {"user_ids": [BEN], "channel_ids": [CHANNEL]})
        snapshot = await update_of(ada, BEN)
        assert (snapshot["status"], snapshot["last_seen"]) == ("offline", None), snapshot

        async with connect(URL) as ben:
            await identify(ben, BEN_TOKEN, platform="mobile")
            online = await update_of(ada, BEN)
            assert (online["status"], online["client_status"]) == ("online", {"mobile": "online"}), online
            assert online["version"] > snapshot["version"]

            body = {"custom_status": "Working", "activity": {"type": "playing", "name": "Rust Programming"}}
            await post("/presence/status", BEN_TOKEN, body)
            working = await update_of(ada, BEN)
            assert (working["custom_status"], working["activity"]["name"]) == ("Working", "Rust Programming"), working
            assert working["activities"] == [working["activity"]], working

            await post("/presence/typing", BEN_TOKEN, {"channel_id": CHANNEL})
            typing = await receive(ada)
            assert (typing["op"], typing["t"]) == (8, "TYPING_START"), typing
            timestamp = typing["d"].pop("timestamp")
            assert isinstance(timestamp, int) and typing["d"] == {"channel_id": CHANNEL, "user_id": BEN}, typing

            await send(ben, 14, {"user_ids": [ADA]})
            seen = await update_of(ben, ADA)
            assert (seen["status"], seen["client_status"]) == ("idle", {"desktop": "idle"}), seen

        offline = await update_of(ada, BEN)
        assert (offline["status"], offline["activity"], offline["client_status"]) == ("offline", None, {}), offline

        # The library sends pings of its own, and must get its pongs.
        await asyncio.wait_for(await ada.ping(), 10)


async def closes():
    refusals = [
        (4001, json.dumps({"op": 99})),
        (4002, "no JSON"),
        (4002, b'{"op":1}'),
        (4003, json.dumps({"op": 14, "d": {"user_ids": [ADA]}})),
        (4004, json.dumps({"op": 2, "d": {"token": "forged"}})),
        (1009, json.dumps({"op": 1, "d": "x" * 100_000})),
    ]
    for code, message in refusals:
        async with connect(URL) as socket:
            await receive(socket)
            await socket.send(message)
            try:
                frame = await receive(socket)
                raise AssertionError(f"{message!r:.40} was answered with {frame}")
            except ConnectionClosed as closed:
                assert closed.rcvd and closed.rcvd.code == code, f"{message!r:.40}: {closed!r}"
                assert closed.rcvd.reason, "a reason helps whoever wrote the client"

    async with connect(URL) as socket:
        await receive(socket)
        try:
            for _ in range(121):
                await send(socket, 1)
            while True:
                assert await receive(socket) == {"op": 11, "d": None}
        except ConnectionClosed as closed:
            assert closed.rcvd and closed.rcvd.code == 4008, f"{closed!r}"


asyncio.run(walk())
asyncio.run(closes())
