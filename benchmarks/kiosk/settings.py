"""Its settings. The environment says where the database is."""

from __future__ import annotations

import json
import os

import django

SECRET_KEY = "of no use"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
BACKPORT = [] if django.VERSION >= (6,) else ["django_tasks"]
INSTALLED_APPS = [*BACKPORT, "outwork.contrib.django", "benchmarks.kiosk"]
DATABASES = {"default": json.loads(os.environ["BENCH_DATABASE"])}
TASKS = {"default": {"BACKEND": "outwork.contrib.django.DatabaseBackend", "QUEUES": []}}
