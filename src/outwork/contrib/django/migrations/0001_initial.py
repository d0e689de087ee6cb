from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models

from outwork.contrib.django.tables import RunSchemaFiles


class Migration(migrations.Migration):
    initial = True

    dependencies: ClassVar[list[tuple[str, str]]] = []

    operations: ClassVar = [
        RunSchemaFiles(to=1),
        migrations.CreateModel(
            name="Job",
            fields=[
                ("id", models.CharField(editable=False, max_length=36, primary_key=True, serialize=False)),
                ("task", models.TextField(editable=False)),
                ("queue", models.TextField(editable=False)),
                ("priority", models.IntegerField(editable=False)),
                ("due", models.FloatField(editable=False)),
                ("enqueued_at", models.FloatField(editable=False)),
            ],
            options={
                "verbose_name": "job",
                "db_table": "outwork_job",
                "ordering": ("-id",),
                "managed": False,
                "default_permissions": ("view", "change", "delete"),
            },
        ),
    ]
