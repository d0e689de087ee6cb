"""Lets `manage.py outwork_runworker` be found: `INSTALLED_APPS += ["outwork.contrib.channels"]`."""

from django.apps import AppConfig


class OutworkChannelsConfig(AppConfig):
    """Its label is not `channels`, which is that of Channels itself."""

    name = "outwork.contrib.channels"
    label = "outwork_channels"
    verbose_name = "Outwork channels"
