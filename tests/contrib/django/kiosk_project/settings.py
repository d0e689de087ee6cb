"""A project for the tests. The environment says where its database is and which backend it uses."""

from __future__ import annotations

import json
import os

import django

FOLDER = os.environ["KIOSK_FOLDER"]
SECRET_KEY = "only for tests"
USE_TZ = True
DEBUG = bool(os.environ.get("KIOSK_DEBUG"))
ALLOWED_HOSTS = ["*"]
SMALL = bool(os.environ.get("KIOSK_SMALL"))  # fewer tables: `migrate` is most of a short test
ROOT_URLCONF = "kiosk_project.no_urls" if SMALL else "kiosk_project.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

SITE = [f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes", "messages", "sessions")]
INSTALLED_APPS = [
    *([] if SMALL else SITE),
    *([] if django.VERSION >= (6,) else ["django_tasks"]),
    *([] if os.environ.get("KIOSK_WITHOUT_OUTWORK") else ["outwork.contrib.django"]),
    "kiosk",
    *os.environ.get("KIOSK_APPS", "").split(),
]
MIDDLEWARE = (
    []
    if SMALL
    else [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ]
)
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
LITE = {"OPTIONS": {"transaction_mode": "IMMEDIATE", "init_command": os.environ.get("KIOSK_PRAGMAS", "")}}
DATABASES = json.loads(
    os.environ.get("KIOSK_DATABASES")
    or json.dumps(
        {
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{FOLDER}/db.sqlite3", **LITE},
            "other": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{FOLDER}/other.sqlite3", **LITE},
        }
    )
)
TASKS = json.loads(
    os.environ.get("KIOSK_TASKS") or '{"default": {"BACKEND": "outwork.contrib.django.DatabaseBackend", "QUEUES": []}}'
)
LOGGING_CONFIG = None
