"""A worker as a process: what to run it on, its signals, its log, its exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from outwork import __version__
from outwork.contrib.channels.instance import Application
from outwork.contrib.channels.layer import OutworkChannelLayer
from outwork.contrib.channels.worker import GRACE, ChannelWorker
from outwork.errors import BrokerFull, BrokerUnavailable, SettingsError
from outwork.worker import logs

logger = logging.getLogger("outwork.channels")


def run(
    application: Application,
    layer: OutworkChannelLayer,
    channels: Mapping[str, int],
    *,
    grace: float = GRACE,
    log_format: str = "text",
    verbose: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT. Raises OutworkError for what no waiting would mend.

    Where a handler does not end in time, the process ends here, with 0: its thread would keep it from ending in any
    other way.
    """
    logs.set_up(log_format, verbose=verbose)
    asyncio.run(_serve(application, layer, channels, grace))


async def _serve(
    application: Application, layer: OutworkChannelLayer, channels: Mapping[str, int], grace: float
) -> None:
    worker = ChannelWorker(application, layer, channels, grace=grace)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    try:
        await layer.attend(list(channels))
    except (BrokerUnavailable, BrokerFull) as error:
        logger.error("%s. Waiting for it", error)
    names = ", ".join(f"{name}:{lanes}" if lanes > 1 else name for name, lanes in channels.items())
    logger.info("outwork %s · %s · channels %s", __version__, layer.url, names)
    summary = await worker.run()
    logger.info("stopped cleanly (%s handled, %s failed)", f"{summary.handled:,}", f"{summary.failed:,}")
    if summary.abandoned:
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)


def read_channels(words: Sequence[str], application: Any) -> dict[str, int]:
    """The channels that are named, as `NAME` or `NAME:4`, with how many messages of each may be handled at once. None
    named: all that the application routes by name. Raises SettingsError."""
    known = routed(application)
    if not words:
        words = known
        if not words:
            raise SettingsError(
                "no channel is named, and the application has no ChannelNameRouter that names them. Write them:  "
                "outwork runworker MODULE:APPLICATION thumbnails-generate"
            )
    found: dict[str, int] = {}
    for word in words:
        name, colon, lanes = word.partition(":")
        if colon and not lanes.isdecimal():
            raise SettingsError(f"{word!r}: what stands after the colon is how many at once, as in {name}:4")
        found[name] = int(lanes) if colon else 1
        if known and name not in known:
            routes = ", ".join(known)
            logger.warning(
                "the application routes no channel %s: its messages would be lost. It routes %s", name, routes
            )
    return found


def routed(application: Any) -> list[str]:
    """The channels of the ChannelNameRouter in a ProtocolTypeRouter, as Channels has them."""
    mapping = getattr(application, "application_mapping", None)
    if isinstance(mapping, Mapping) and "channel" in mapping:
        mapping = getattr(mapping["channel"], "application_mapping", None)
        return [str(name) for name in mapping] if isinstance(mapping, Mapping) else []
    return []


def our_layer(layer: object, alias: str) -> OutworkChannelLayer:
    """Raises SettingsError where an alias of `CHANNEL_LAYERS` is missing or another package's."""
    if layer is None:
        raise SettingsError(f"CHANNEL_LAYERS has no {alias!r}. Add it, or name another one with --layer")
    if not isinstance(layer, OutworkChannelLayer):
        raise SettingsError(
            f"CHANNEL_LAYERS[{alias!r}] is {type(layer).__module__}.{type(layer).__qualname__}. This worker needs "
            "BACKEND outwork.contrib.channels.OutworkChannelLayer; for others there is  manage.py runworker"
        )
    return layer
