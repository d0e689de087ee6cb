"""Channel layers for Django Channels and any ASGI application: at most once, at low latency, on every store."""

from outwork.contrib.channels.layer import ChannelFull, OutworkChannelLayer
from outwork.contrib.channels.sending import agroup_send, asend, group_send, send

__all__ = ["ChannelFull", "OutworkChannelLayer", "agroup_send", "asend", "group_send", "send"]
