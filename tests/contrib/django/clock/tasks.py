"""An application with schedules, installed where KIOSK_APPS says so."""

from kiosk.api import task
from kiosk.tasks import write

from outwork import current_context
from outwork.contrib.django import options


@options(every=1)
@task
def tick() -> None:
    """Every second."""
    slot = current_context().slot
    assert slot is not None
    write("tick", int(slot.timestamp()))


@options(cron="0 7 * * *", timezone="Europe/Paris")
@task
def report(days: int = 1) -> int:
    return days
