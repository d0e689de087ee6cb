from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models

from outwork.contrib.django.tables import CreateUnlessThere


class Migration(migrations.Migration):
    dependencies: ClassVar = [("outwork", "0003_bound")]

    operations: ClassVar = [
        CreateUnlessThere(
            name="Unsent",
            fields=[
                ("id", models.CharField(editable=False, max_length=36, primary_key=True, serialize=False)),
                ("backend", models.TextField(editable=False)),
                ("body", models.BinaryField()),
                ("send_at", models.FloatField(db_index=True, editable=False)),
                ("taken_by", models.CharField(default="", editable=False, max_length=32)),
            ],
            options={"db_table": "outwork_unsent", "default_permissions": ()},
        ),
    ]
