"""A Flask application as flask-dramatiq makes it: its configuration names the class and the URL of Dramatiq's broker.

SIGNUP_CONFIG=signup.toml python -m dramatiq contrib.signup_site        is its worker

POST /mail to=...        sends a mail in the background; answers with the message's id
"""

from __future__ import annotations

import os
import time
import tomllib
from importlib import import_module
from threading import local
from typing import Any

import dramatiq
from dramatiq import Middleware
from dramatiq.middleware import default_middleware
from flask import Flask, current_app, request

from support import ledger


class AppContext(Middleware):
    """Each message is processed in an application context."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._state = local()

    def before_process_message(self, broker: Any, message: Any) -> None:
        self._state.context = self._app.app_context()
        self._state.context.push()

    def after_process_message(self, broker: Any, message: Any, *, result: Any = None, exception: Any = None) -> None:
        self._state.context.pop(exception)


def create_app() -> Flask:
    app = Flask(__name__)
    with open(os.environ["SIGNUP_CONFIG"], "rb") as file:
        app.config.from_mapping(tomllib.load(file))
    module, _, name = app.config["BROKER"].partition(":")
    middleware = [AppContext(app), *(kind() for kind in default_middleware)]
    dramatiq.set_broker(getattr(import_module(module), name)(url=app.config["BROKER_URL"], middleware=middleware))
    app.add_url_rule("/mail", view_func=post_mail, methods=["POST"])
    return app


def post_mail() -> tuple[str, int]:
    return send_mail.send(request.form["to"]).message_id, 202


app = create_app()
broker = dramatiq.get_broker()


@dramatiq.actor(queue_name="mail")
def send_mail(to: str) -> None:
    ledger.write("S", to)
    time.sleep(current_app.config["SECONDS"])
    ledger.write("E", to, current_app.config["SITE"])
