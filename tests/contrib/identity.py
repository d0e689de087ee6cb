"""An identity server in miniature: what leaves the request, and an operator who chooses where it runs.

IDENTITY_CONFIG=identity.toml python -m contrib.identity worker

POST /mail to=...        enqueues a mail; answers with the job's id
GET  /job/ID             its state, and what it returned
"""

from __future__ import annotations

import os
import sqlite3
import time
import tomllib
from pathlib import Path

import click
from flask import Flask, current_app, g, request, url_for
from flask.cli import FlaskGroup

import outwork
from outwork import Retry, current_context, task
from outwork.contrib.flask import Outwork, worker_command
from support import ledger

queue = Outwork(config_prefix="BROKER")


def create_app() -> Flask:
    """The application, configured by the file that IDENTITY_CONFIG names."""
    app = Flask(__name__)
    app.config["SITE"] = "example"
    if path := os.environ.get("IDENTITY_CONFIG"):
        with open(path, "rb") as file:
            app.config.from_mapping(tomllib.load(file))
    queue.init_app(app)
    app.add_url_rule("/mail", view_func=post_mail, methods=["POST"])
    app.add_url_rule("/job/<job_id>", view_func=show_job)
    app.teardown_appcontext(close_database)
    return app


@click.group(cls=FlaskGroup, create_app=create_app)
def main() -> None:
    """The identity server."""


main.add_command(worker_command)


# ---- the database, as Flask's own tutorial has it --------------------------------------------------------------------


def database() -> sqlite3.Connection:
    if "database" not in g:
        g.database = sqlite3.connect(current_app.config["DATABASE"])
    connection: sqlite3.Connection = g.database
    return connection


def close_database(error: BaseException | None) -> None:
    connection = g.pop("database", None)
    if connection is not None:
        connection.close()
        ledger.write("E", "teardown", str(error or "well"))


# ---- tasks -----------------------------------------------------------------------------------------------------------


@task(queue_name="mail", retry=Retry(max_attempts=3, delay=0.01))
def send_mail(to: str) -> str:
    """Needs the configuration and the database; the first attempt for `flaky` fails."""
    assert "seen" not in g
    g.seen = True
    sent = database().execute("insert into sent values (?) returning rowid", [to]).fetchone()[0]
    ledger.write("S", to, str(sent))
    if to == "flaky" and current_context().attempt == 1:
        raise ConnectionError("the mail server is down")
    database().commit()
    return f"{current_app.config['SITE']}: {to}"


@task(queue_name="mail")
async def send_later(to: str) -> str:
    assert "seen" not in g
    g.seen = True
    database().execute("insert into sent values (?)", [to])
    database().commit()
    ledger.write("S", to)
    return f"{current_app.config['SITE']}: {to}"


@task
def provision(user: str) -> str:
    """Runs until the gate is open."""
    ledger.write("S", user)
    while not Path(current_app.config["GATE"]).exists():
        time.sleep(0.01)
    ledger.write("E", user)
    return user


@task
def link(user: str) -> str:
    return url_for("show_job", job_id=user, _external=True)


# ---- views -----------------------------------------------------------------------------------------------------------


def post_mail() -> tuple[str, int]:
    how = send_later if request.form.get("how") == "async" else send_mail
    return how.enqueue(request.form["to"]).id, 202


def show_job(job_id: str) -> str:
    result = outwork.get_result(job_id)
    return f"{result.status} {result.return_value}" if result.status == "SUCCESSFUL" else str(result.status)


if __name__ == "__main__":
    main()
