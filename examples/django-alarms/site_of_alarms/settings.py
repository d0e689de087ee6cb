"""Settings of the example. `ALARMS_TASKS` chooses where tasks run, the rest stays as it is."""

import os
from pathlib import Path

import django

HERE = Path(os.environ.get("ALARMS_FOLDER", Path(__file__).resolve().parents[1]))
SECRET_KEY = os.environ.get("ALARMS_SECRET_KEY", "for development only")
DEBUG = os.environ.get("ALARMS_DEBUG", "") == "1"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["outwork.contrib.django", "alarms"]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": HERE / "alarms.sqlite3",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
    }
}

BACKENDS = {
    "database": {"BACKEND": "outwork.contrib.django.DatabaseBackend"},
    "immediate": {"BACKEND": "outwork.contrib.django.ImmediateBackend"},
    "threads": {"BACKEND": "outwork.contrib.django.ThreadPoolBackend"},
    "redis": {
        "BACKEND": "outwork.contrib.django.RedisBackend",
        "OPTIONS": {"broker_url": os.environ.get("ALARMS_REDIS", "redis://localhost:6379/0")},
    },
    "rabbitmq": {
        "BACKEND": "outwork.contrib.django.RabbitMQBackend",
        "OPTIONS": {"broker_url": os.environ.get("ALARMS_RABBITMQ", "amqp://localhost")},
    },
}
TASKS = {"default": BACKENDS[os.environ.get("ALARMS_TASKS", "database")] | {"QUEUES": ["default", "mail"]}}

if django.VERSION >= (6, 1):
    MAILERS = {
        "default": {
            "BACKEND": "django.core.mail.backends.filebased.EmailBackend",
            "OPTIONS": {"file_path": HERE / "outbox"},
        }
    }
else:
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    EMAIL_FILE_PATH = HERE / "outbox"
DEFAULT_FROM_EMAIL = "alarms@example.com"
