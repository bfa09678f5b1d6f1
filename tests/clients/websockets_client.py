"""One conversation with the `websockets` package: prints each token as it comes, then `done` and the whole text."""

import asyncio
import json
import os

import websockets


async def main():
    url = os.environ["OXIOS_URL"].replace("http://", "ws://") + "/api/chat/stream"
    headers = {"Authorization": "Bearer " + os.environ["OXIOS_KEY"]}
    async with websockets.connect(url, additional_headers=headers) as socket:
        await socket.send("no JSON at all")
        assert json.loads(await socket.recv())["type"] == "error"
        await (await socket.ping())
        await socket.send(json.dumps({"type": "message", "content": "go", "session_id": os.environ["OXIOS_SESSION"]}))
        text = ""
        async for frame in socket:
            frame = json.loads(frame)
            if frame["type"] == "token":
                text += frame["content"]
                print("token", frame["content"], flush=True)
            elif frame["type"] == "done":
                assert frame["text"] == text, frame
                break
        else:
            raise SystemExit("the socket ended before done")
    print("done", text, flush=True)

    # Without a key there is no socket.
    try:
        await websockets.connect(url)
    except websockets.exceptions.InvalidStatus as refused:
        assert refused.response.status_code == 401
    else:
        raise SystemExit("a socket without a key")


asyncio.run(main())
