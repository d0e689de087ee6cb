"""`outwork runworker`: channels for any ASGI application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from outwork.cli.common import Command, duration_value, is_verbose

if TYPE_CHECKING:
    from outwork.contrib.channels.layer import OutworkChannelLayer


@click.command("runworker", cls=Command)
@click.argument("application", metavar="MODULE:APPLICATION")
@click.argument("channels", nargs=-1, metavar="[NAME | NAME:4]...")
@click.option("--url", envvar="OUTWORK_CHANNELS_URL", metavar="URL", help="Where the channels are.")
@click.option(
    "--layer", default="default", metavar="ALIAS", help="Without --url: the alias in Django's CHANNEL_LAYERS."
)
@click.option("--prefix", default="asgi", metavar="NAME", help="With --url: the prefix of the senders' layer.  [asgi]")
@click.option(
    "--grace", default="25s", callback=duration_value, metavar="S", help="How long handlers may take to end.  [25s]"
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", help="How log lines look.  [text]")
def runworker_command(
    application: str,
    channels: tuple[str, ...],
    url: str | None,
    layer: str,
    prefix: str,
    grace: float,
    log_format: str,
) -> None:
    """Feed the messages of channels to an ASGI application until SIGTERM or Ctrl-C.

    The application is called with the scope {"type": "channel", "channel": NAME}. NAME:4 handles up to 4 messages of a
    channel at once, instead of one after the other. Without names: all that a ChannelNameRouter of Channels names.
    """
    from outwork.contrib.channels.running import read_channels, run
    from outwork.loading import load_object

    found: Any = load_object(application)
    run(
        found,
        _layer(url, layer, prefix),
        read_channels(channels, found),
        grace=grace,
        log_format=log_format,
        verbose=is_verbose(),
    )


def _layer(url: str | None, alias: str, prefix: str) -> OutworkChannelLayer:
    """By its URL, or from Django's settings, which the application's module has named."""
    from outwork.contrib.channels.layer import OutworkChannelLayer
    from outwork.contrib.channels.sending import find_layer

    return find_layer(alias) if url is None else OutworkChannelLayer(url, prefix=prefix)
