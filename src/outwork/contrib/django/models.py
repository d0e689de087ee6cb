"""The jobs as Django's ORM and admin see them. Their tables are made by our numbered files, so `Job` manages none.

Read them as you like; change them by the admin's actions, by `manage.py outwork` or by a store's verbs only, because a
job is a row here and a row in exactly one other table.
"""

from __future__ import annotations

from django.db import models


class Job(models.Model):
    """What was asked for. Where it stands is in the other tables; times are Unix seconds."""

    id = models.CharField(primary_key=True, max_length=36, editable=False)
    task = models.TextField(editable=False)
    queue = models.TextField(editable=False)
    priority = models.IntegerField(editable=False)
    due = models.FloatField(editable=False)
    enqueued_at = models.FloatField(editable=False)

    class Meta:
        managed = False
        db_table = "outwork_job"
        verbose_name = "job"
        ordering = ("-id",)
        default_permissions = ("view", "change", "delete")

    def __str__(self) -> str:
        return f"{self.task} {self.id}"


class Unsent(models.Model):
    """A job for a broker elsewhere that was enqueued in a transaction of this database, until that broker has it.

    `send_at`, by this database's clock, is when a worker is to send it, because nobody else did; `taken_by` says which
    of them does.
    """

    id = models.CharField(primary_key=True, max_length=36, editable=False)
    backend = models.TextField(editable=False)
    body = models.BinaryField()
    send_at = models.FloatField(editable=False, db_index=True)
    taken_by = models.CharField(max_length=32, editable=False, default="")

    class Meta:
        db_table = "outwork_unsent"
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.id)
