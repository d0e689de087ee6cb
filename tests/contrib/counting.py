"""An application written with Dramatiq's API only. Which broker it has, its configuration says:

BROKER=dramatiq.brokers.redis:RedisBroker                   BROKER_URL=redis://...
RESULTS=dramatiq.results.backends.redis:RedisBackend        RESULTS_URL=redis://...
BARRIERS=dramatiq.rate_limits.backends.redis:RedisBackend

`python -m dramatiq contrib.counting` is its worker; `python -m contrib.counting` uses it, and prints what it saw.
"""

from __future__ import annotations

import json
import os
import time
from importlib import import_module
from typing import Any

import dramatiq
from dramatiq import group, pipeline
from dramatiq.middleware import AsyncIO, CurrentMessage, GroupCallbacks, TimeLimitExceeded
from dramatiq.results import ResultFailure, ResultMissing, Results, ResultTimeout

from support import ledger


def import_string(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


broker = import_string(os.environ["BROKER"])(url=os.environ["BROKER_URL"])
broker.add_middleware(AsyncIO())
broker.add_middleware(CurrentMessage())
broker.add_middleware(GroupCallbacks(import_string(os.environ["BARRIERS"])(url=os.environ["RESULTS_URL"])))
broker.add_middleware(Results(backend=import_string(os.environ["RESULTS"])(url=os.environ["RESULTS_URL"])))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def add(x: int, y: int) -> int:
    return x + y


@dramatiq.actor(store_results=True, queue_name="other")
async def double(x: int) -> int:
    return 2 * x


@dramatiq.actor(store_results=True, max_retries=3, min_backoff=10, max_backoff=50)
def flaky(name: str) -> int:
    """Succeeds at its third attempt; returns how many failed before."""
    message = CurrentMessage.get_current_message()
    assert message is not None
    ledger.write("S", name, message.message_id)
    retries: int = message.options.get("retries", 0)
    if retries < 2:
        raise ConnectionError("not yet")
    return retries


@dramatiq.actor(store_results=True, max_retries=1, min_backoff=10, max_backoff=20, on_retry_exhausted="mourn")
def broken(name: str) -> None:
    ledger.write("S", name)
    raise ValueError(f"{name} is broken")


@dramatiq.actor
def mourn(message: dict[str, Any], retry: dict[str, int]) -> None:
    ledger.write("E", message["args"][0], f"{retry['retries']} of {retry['max_retries']}")


@dramatiq.actor(store_results=True, throws=KeyError)
def refused(name: str) -> None:
    ledger.write("S", name)
    raise KeyError(name)


@dramatiq.actor(store_results=True, time_limit=200, max_retries=0)
def endless() -> None:
    try:
        while True:
            time.sleep(0.01)
    except TimeLimitExceeded:
        ledger.write("E", "endless")
        raise


@dramatiq.actor(max_age=1)
def stale(name: str) -> None:
    ledger.write("S", name)


@dramatiq.actor(store_results=True)
def asked_again(name: str) -> str:
    message = CurrentMessage.get_current_message()
    assert message is not None
    if "retries" not in message.options:
        raise dramatiq.Retry("in a moment", delay=100)
    return name


@dramatiq.actor
def note(name: str) -> None:
    ledger.write("E", name)


@dramatiq.actor
def succeeded(message: dict[str, Any], result: int) -> None:
    ledger.write("E", "callback", str(result))


@dramatiq.actor(queue_name="chores", max_retries=5, min_backoff=10, max_backoff=100)
def chore(name: str, seconds: float) -> None:
    """What a worker is killed in the middle of. One in five fails the first time."""
    ledger.write("S", name)
    time.sleep(seconds)
    message = CurrentMessage.get_current_message()
    assert message is not None
    if name.endswith("5") and "retries" not in message.options:
        raise ConnectionError("not yet")
    ledger.write("E", name)


def use() -> dict[str, Any]:
    """Everything that an application does with messages and results."""
    seen: dict[str, Any] = {}
    seen["result"] = add.send(1, 2).get_result(block=True)
    later = add.send_with_options(args=(3, 4), delay=500)
    try:
        later.get_result()
    except ResultMissing:
        seen["too early"] = True
    try:
        later.get_result(block=True, timeout=100)
    except ResultTimeout:
        seen["still too early"] = True
    seen["delayed"] = later.get_result(block=True)
    seen["async"] = double.send(21).get_result(block=True)
    seen["retried"] = flaky.send("flaky").get_result(block=True, timeout=60_000)
    seen["asked again"] = asked_again.send("again").get_result(block=True)
    for actor, args in ((broken, ("vase",)), (refused, ("door",)), (endless, ())):
        try:
            actor.send(*args).get_result(block=True, timeout=60_000)
        except ResultFailure as error:
            seen[actor.actor_name] = [error.orig_exc_type, error.orig_exc_msg]
    plus_ten, doubled = add.message_with_options(args=(10,)), double.message_with_options()
    seen["pipeline"] = (add.message(1, 2) | plus_ten | doubled).run().get_result(block=True)
    pair = pipeline([add.message(1, 1), double.message_with_options()]).run(delay=50)
    seen["pipeline's results"] = list(pair.get_results(block=True))
    many = group([add.message(n, n) for n in range(20)]).run()
    seen["group"] = list(many.get_results(block=True))
    seen["completed"] = [many.completed, many.completed_count]
    nested = group([pipeline([add.message(n, 1), double.message_with_options()]) for n in range(5)]).run(delay=20)
    seen["group of pipelines"] = list(nested.get_results(block=True))
    called_back = group([note.message(f"member-{n}") for n in range(8)])
    called_back.add_completion_callback(note.message("group"))
    called_back.run()
    add.send_with_options(args=(20, 22), on_success=succeeded)
    stale.send_with_options(args=("stale",), delay=100)
    for n in range(50):
        note.send(f"note-{n}")
    return seen


if __name__ == "__main__":
    print(json.dumps(use()))
    broker.close()
