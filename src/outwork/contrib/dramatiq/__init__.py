"""Dramatiq applications on our brokers, unchanged.

    import dramatiq
    from outwork.contrib.dramatiq import OutworkBroker

    dramatiq.set_broker(OutworkBroker(url="sqlite:///tasks.db"))

or by configuration alone, where an application picks its broker's class:

    BROKER = "outwork.contrib.dramatiq:OutworkBroker"
    BROKER_URL = "sqlite:///tasks.db"

Actors, middleware, results, pipelines and groups are Dramatiq's own, and so is the worker: `dramatiq MODULE`.
"""

from __future__ import annotations

from importlib.util import find_spec

from outwork.errors import MissingDriver

if find_spec("dramatiq") is None:
    raise MissingDriver("outwork.contrib.dramatiq needs Dramatiq:  pip install 'outwork[dramatiq]'")

from outwork.contrib.dramatiq.barriers import BarrierBackend
from outwork.contrib.dramatiq.broker import OutworkBroker
from outwork.contrib.dramatiq.results import OutworkBackend

__all__ = ["BarrierBackend", "OutworkBackend", "OutworkBroker"]
