"""What happens after an event was saved: one task looks who wants to know, and enqueues one mail for each."""

from django.core.mail import send_mail
from django.db import transaction

from alarms.models import Destination, Event, Sent
from outwork import Retry
from outwork.contrib.django import options, task


@task
def check(event_id: int) -> int:
    """Tell everybody who wants to hear of this event. How many they are."""
    event = Event.objects.get(pk=event_id)
    destinations = Destination.objects.filter(up_to_level__gte=event.level)
    with transaction.atomic():  # all mails are enqueued, or none
        for destination in destinations:
            tell.enqueue(event.pk, destination.pk)
    return len(destinations)


@options(retry=Retry(max_attempts=6, on=(OSError,)), timeout=30)
@task(queue_name="mail")
def tell(event_id: int, destination_id: int) -> str:
    """Send one mail. A mail server that is away is an OSError, and the task is tried again."""
    event, destination = Event.objects.get(pk=event_id), Destination.objects.get(pk=destination_id)
    if Sent.objects.filter(event=event, destination=destination).exists():
        return "sent before"  # the worker died between the mail and the end of the task
    send_mail(f"[{event.level}] {event.source}", event.text, None, [destination.email])
    Sent.objects.create(event=event, destination=destination)
    return destination.email
