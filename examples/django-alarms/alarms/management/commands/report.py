"""`manage.py report SOURCE LEVEL TEXT`: what a monitored system would do over HTTP."""

from django.core.management.base import BaseCommand
from django.db import transaction

from alarms.models import Event
from alarms.tasks import check


class Command(BaseCommand):
    help = "Save an event, and let the worker tell of it."

    def add_arguments(self, parser):
        parser.add_argument("source")
        parser.add_argument("level", type=int)
        parser.add_argument("text")

    def handle(self, *args, source, level, text, **options):
        with transaction.atomic():  # no event without its task, and no task without its event
            event = Event.objects.create(source=source, level=level, text=text)
            result = check.enqueue(event.pk)
        self.stdout.write(f"event {event.pk}, {result.status.lower()}")
