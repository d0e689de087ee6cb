"""`manage.py outwork_runworker NAME...`: a worker for channels that finishes, puts back and reconnects."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from channels import DEFAULT_CHANNEL_LAYER
from channels.layers import get_channel_layer
from channels.routing import get_default_application
from django.core.management.base import BaseCommand, CommandError

from outwork.contrib.channels.running import our_layer, read_channels, run
from outwork.contrib.channels.worker import GRACE
from outwork.durations import seconds_of
from outwork.errors import BrokerUnavailable, OutworkError, SettingsError


class Command(BaseCommand):
    help = "Feed the messages of channels to the consumers of ASGI_APPLICATION until SIGTERM or Ctrl-C."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add(
            *("channels",),
            nargs="*",
            metavar="NAME",
            help="A channel to read; NAME:4 handles 4 of its messages at once.  [all that a ChannelNameRouter names]",
        )
        add("--layer", default=DEFAULT_CHANNEL_LAYER, metavar="ALIAS", help="The alias in CHANNEL_LAYERS.  [default]")
        add("--grace", type=seconds_of, default=GRACE, metavar="S", help="How long handlers may take to end.  [25s]")
        add("--log-format", choices=["text", "json"], default="text", help="How log lines look.  [text]")

    def handle(self, *args: Any, **options: Any) -> None:
        application: Any = get_default_application()
        try:
            layer = our_layer(get_channel_layer(options["layer"]), options["layer"])
            run(
                application,
                layer,
                read_channels(options["channels"], application),
                grace=options["grace"],
                log_format=options["log_format"],
                verbose=options["verbosity"] > 1,
            )
        except OutworkError as error:
            code = 3 if isinstance(error, BrokerUnavailable) else 2 if isinstance(error, SettingsError) else 1
            raise CommandError(str(error), returncode=code) from error
