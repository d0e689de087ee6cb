from django.db import models


class Event(models.Model):
    """Something that a monitored system has reported. Level 1 is the worst, 5 the mildest."""

    source = models.CharField(max_length=100)
    level = models.PositiveSmallIntegerField()
    text = models.TextField()
    at = models.DateTimeField(auto_now_add=True)


class Destination(models.Model):
    """Who wants to hear of events up to a level."""

    email = models.EmailField(unique=True)
    up_to_level = models.PositiveSmallIntegerField(default=5)


class Sent(models.Model):
    """An event of which a destination was told, so that it is told once."""

    event = models.ForeignKey(Event, on_delete=models.CASCADE)
    destination = models.ForeignKey(Destination, on_delete=models.CASCADE)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("event", "destination"), name="sent_once"),)
