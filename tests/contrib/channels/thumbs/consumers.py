"""The two consumers of the tests, one synchronous and one not."""

import asyncio
import os
import sys
import time

from asgiref.sync import async_to_sync
from channels.consumer import AsyncConsumer, SyncConsumer
from channels.layers import get_channel_layer

from outwork.contrib.channels import asend, send


def note(*words):
    line = " ".join(map(str, words)) + "\n"
    handle = os.open(os.environ["THUMBS_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


class GenerateConsumer(SyncConsumer):
    def test_print(self, message):
        note("print", message["number"], os.getpid())

    def send_on(self, message):
        further = {"type": "delete", "number": message["number"]}
        if message["how"] == "ours":
            send("thumbnails-delete", further)
        else:
            async_to_sync(get_channel_layer().send)("thumbnails-delete", further)

    def slow(self, message):
        note("begun", message["number"])
        time.sleep(message["seconds"])
        note("slow", message["number"], os.getpid())

    def hold(self, message):
        note("begun", message["number"])
        while not os.path.exists(message["until"]):
            time.sleep(0.01)
        note("held", message["number"], os.getpid())

    def fail(self, message):
        raise ValueError("the secret of the handler")

    def leave(self, message):
        sys.exit(3)

    def interrupt(self, message):
        raise KeyboardInterrupt


class DeleteConsumer(AsyncConsumer):
    async def delete(self, message):
        note("delete", message["number"], os.getpid())

    async def send_on(self, message):
        further = {"type": "test.print", "number": message["number"]}
        if message["how"] == "ours":
            await asend("thumbnails-generate", further)
        else:
            await get_channel_layer().send("thumbnails-generate", further)

    async def leave(self, message):
        raise SystemExit(3)

    async def cancel(self, message):
        raise asyncio.CancelledError

    async def nap(self, message):
        note("begun", message["number"])
        await asyncio.sleep(message["seconds"])
        note("nap", message["number"], os.getpid())

    async def flaky(self, message):
        note("attempt", message["number"])
        if not os.path.exists(message["until"]):
            raise ValueError("not yet")
        note("flaky", message["number"])
