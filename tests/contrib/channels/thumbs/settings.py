"""The layer is named by the environment."""

import json
import os

SECRET_KEY = "tests"
INSTALLED_APPS = ["channels", "outwork.contrib.channels", "outwork.contrib.django"]
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "thumbs.urls"
ASGI_APPLICATION = "thumbs.asgi.application"
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "outwork.contrib.channels.OutworkChannelLayer",
        "CONFIG": json.loads(os.environ["THUMBS_LAYER"]),
    },
    "other": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
}
TASKS = {
    "default": {
        "BACKEND": "outwork.contrib.django.OutworkBackend",
        "OPTIONS": {"broker_url": os.environ.get("THUMBS_BROKER", "sqlite:///jobs.db")},
    }
}
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
USE_TZ = True
