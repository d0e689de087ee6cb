"""Sending from anywhere: a view, a consumer, a script, synchronous or not, without wrapping.

`send` and `group_send` block for as long as it takes, and may be called from any thread; `asend` and `agroup_send` are
awaited. The synchronous ones share one event loop on a thread of its own, and so one connection, for all threads.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from asyncio import AbstractEventLoop
from collections.abc import Coroutine
from functools import cache
from typing import Any, Final, TypeAlias, cast

from outwork.contrib.channels.layer import OutworkChannelLayer
from outwork.errors import SettingsError

URL_VARIABLE: Final = "OUTWORK_CHANNELS_URL"

Layer: TypeAlias = OutworkChannelLayer | str
"""A layer, or its alias in `CHANNEL_LAYERS`."""


def send(channel: str, message: dict[str, Any], *, layer: Layer = "default") -> None:
    """Send a message to a channel. Raises what `OutworkChannelLayer.send` raises."""
    _wait(find_layer(layer).send(channel, message))


async def asend(channel: str, message: dict[str, Any], *, layer: Layer = "default") -> None:
    """As `send`, without blocking the event loop."""
    await find_layer(layer).send(channel, message)


def group_send(group: str, message: dict[str, Any], *, layer: Layer = "default") -> None:
    """Send a message to all members of a group."""
    _wait(find_layer(layer).group_send(group, message))


async def agroup_send(group: str, message: dict[str, Any], *, layer: Layer = "default") -> None:
    """As `group_send`, without blocking the event loop."""
    await find_layer(layer).group_send(group, message)


def find_layer(layer: Layer) -> OutworkChannelLayer:
    """The layer of an alias: from `CHANNEL_LAYERS` where Django has settings, else by OUTWORK_CHANNELS_URL. Raises
    SettingsError."""
    if isinstance(layer, OutworkChannelLayer):
        return layer
    if has_django_settings():
        from channels.layers import get_channel_layer

        found = get_channel_layer(layer)
        if found is not None:
            return cast(OutworkChannelLayer, found)
        raise SettingsError(f"CHANNEL_LAYERS has no {layer!r}. Add it, with BACKEND outwork.contrib.channels.{_NAME}")
    url = os.environ.get(URL_VARIABLE)
    if layer != "default" or not url:
        raise SettingsError(
            f"there is no channel layer {layer!r}: Django has no settings here, and {URL_VARIABLE} is not set. Set it, "
            "or pass the layer itself:  send(channel, message, layer=layer)"
        )
    return _layer_of(url)


def has_django_settings() -> bool:
    """Whether Django is in use in this process, or would find its settings."""
    if "DJANGO_SETTINGS_MODULE" not in os.environ and "django.conf" not in sys.modules:
        return False
    try:
        from django.conf import settings
    except ImportError:
        return False
    return bool(settings.configured or os.environ.get("DJANGO_SETTINGS_MODULE"))


def our_layers() -> dict[str, OutworkChannelLayer]:
    """The layers in CHANNEL_LAYERS that are ours, by their aliases; none where Django has not been set up, or is not
    used with Channels."""
    if "django.conf" not in sys.modules:
        return {}
    from django.conf import settings

    if not settings.configured or not getattr(settings, "CHANNEL_LAYERS", None):
        return {}
    from channels.layers import channel_layers
    from django.utils.module_loading import import_string

    found: dict[str, OutworkChannelLayer] = {}
    for alias, config in channel_layers.configs.items():
        kind = import_string(config["BACKEND"])
        if isinstance(kind, type) and issubclass(kind, OutworkChannelLayer):
            found[alias] = cast(OutworkChannelLayer, channel_layers[alias])
    return found


@cache
def _layer_of(url: str) -> OutworkChannelLayer:
    return OutworkChannelLayer(url)


_NAME: Final = OutworkChannelLayer.__name__


class _Loop:
    """The event loop of those who have none; another one after a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: AbstractEventLoop | None = None
        self._pid = 0

    def get(self) -> AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="outwork-channels", daemon=True).start()
            return self._loop


_loop: Final = _Loop()


def _wait(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run_coroutine_threadsafe(work, _loop.get()).result()
