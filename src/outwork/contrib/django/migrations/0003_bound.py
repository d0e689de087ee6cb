from __future__ import annotations

from typing import ClassVar

from django.db import migrations

from outwork.contrib.django.tables import RunSchemaFiles


class Migration(migrations.Migration):
    dependencies: ClassVar = [("outwork", "0002_outbox")]

    operations: ClassVar = [RunSchemaFiles(to=3)]
