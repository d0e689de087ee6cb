"""What `outwork status` says of channels: who is read, who is not."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from outwork.cli.output import plural, say, say_table
from outwork.durations import duration_text
from outwork.errors import OutworkError

if TYPE_CHECKING:
    from outwork.contrib.channels.layer import OutworkChannelLayer
    from outwork.contrib.channels.pipes import Seen


def layers_in_sight(url: str | None) -> dict[str, OutworkChannelLayer]:
    """That of `--channels`, or else those of ours in Django's CHANNEL_LAYERS, where Django has been set up."""
    if url is not None:
        from outwork.contrib.channels.layer import OutworkChannelLayer

        layer = OutworkChannelLayer(url)
        return {layer.url: layer}
    if "django.conf" not in sys.modules:
        return {}
    from outwork.contrib.channels.sending import our_layers

    return our_layers()


def survey(layers: dict[str, OutworkChannelLayer]) -> dict[str, list[Seen]]:
    """By the layers' names. One that cannot be asked is told of on stderr."""
    found: dict[str, list[Seen]] = {}
    for name, layer in layers.items():
        try:
            found[name] = asyncio.run(layer.survey())
        except OutworkError as error:
            click.echo(f"outwork: {error}", err=True)
    return found


def say_channels(layers: dict[str, OutworkChannelLayer], surveys: dict[str, list[Seen]]) -> None:
    """A table for each layer, and a warning for each channel that nobody reads."""
    for name, seen in surveys.items():
        layer = layers[name]
        say()
        say(f"channels  {layer.url}")
        if not seen:
            say("no channel was sent to or read in the last day")
            continue
        say()
        rows = [(one.channel, f"{one.unread:,}", _ago(one.looked), _state(one, layer.unread_warning)) for one in seen]
        say_table(("CHANNEL", "UNREAD", "READ", ""), rows)
        for one in seen:
            if _unserved(one, layer.unread_warning):
                click.echo(
                    f"outwork: OW101 channel {one.channel!r} has {plural(one.unread, 'unread message')}, and nobody "
                    f"reads it. Start a worker:  outwork runworker MODULE:APPLICATION {one.channel} --url URL",
                    err=True,
                )


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{duration_text(round(seconds))} ago"


def _unserved(one: Seen, patience: float) -> bool:
    """Whether it is sent to, and nobody has read it for so long."""
    if not one.unread:
        return False
    since = one.sent if one.looked is None else one.looked
    return since is not None and since >= patience


def _state(one: Seen, patience: float) -> str:
    return "nobody reads it" if _unserved(one, patience) else ""
