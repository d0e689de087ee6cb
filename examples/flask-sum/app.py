"""A Flask application that answers at once, and lets a worker do the rest."""

from __future__ import annotations

import os

from flask import Flask, request

from outwork.contrib.flask import Outwork
from tasks import add, send_mail

app = Flask(__name__)
if url := os.environ.get("RABBITMQ_URL") or os.environ.get("REDIS_URL"):  # as a platform may name them
    app.config["OUTWORK_BROKER_URL"] = url
Outwork(app)


@app.post("/")
def sum_up() -> tuple[str, int]:
    add.enqueue(request.form["x"], request.form["y"])
    return "Deferred", 202


@app.post("/mail")
def mail() -> tuple[str, int]:
    send_mail.enqueue(request.form["to"])
    return "Deferred", 202
