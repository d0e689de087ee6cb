"""An identity server in miniature: people sign up; mails, text messages and other applications are told by a worker.

IDENTITY_CONFIG=identity.toml python -m identity worker
"""

from __future__ import annotations

import os
import sqlite3
import tomllib
import uuid
from typing import Any

import click
from flask import Flask, abort, current_app, g, request
from flask.cli import FlaskGroup
from scim2_models import Email, User

import outwork
from outwork.contrib.flask import Outwork, worker_command
from outwork.contrib.mail import Attachment, Mail, Mailer, MailSettings
from outwork.contrib.provisioning import Kind, Provisioning, ProvisioningSettings, ScimClient
from outwork.contrib.sms import Sms, SmsSettings, Texter
from outwork.errors import JobNotFound

LOGO = bytes.fromhex("47494638396101000100800000ff6600ffffff2c00000000010001000002024401003b")  # a GIF of one pixel
TERMS = b"Be kind to each other.\n"

queue = Outwork(config_prefix="BROKER")


# ---- what leaves the requests ----------------------------------------------------------------------------------------


def smtp() -> MailSettings:
    """By functions, because the application's own configuration says it: it is read where the work is done."""
    return MailSettings(**current_app.config["SMTP"])


def smpp() -> SmsSettings:
    return SmsSettings(**current_app.config["SMPP"])


def scim() -> ProvisioningSettings:
    clients = current_app.config.get("SCIM", {})
    return ProvisioningSettings(clients={name: ScimClient(**client) for name, client in clients.items()})


def read(client: str, kind: Kind, id: str) -> User[Any] | dict[str, Any] | None:
    """The user or group as it is now: a model of scim2_models, or a mapping as SCIM writes it. Each question is a query
    of its own, so none is answered from memory."""
    if kind == "user":
        row = database().execute("select name, mail from people where id = ?", [id]).fetchone()
        return User(user_name=row[0], emails=[Email(value=row[1])], active=True) if row else None
    rows = database().execute("select id from people where team = ?", [id]).fetchall()
    return {"displayName": id, "members": [{"value": row[0]} for row in rows]} if rows else None


mailer = Mailer(smtp)
texter = Texter(smpp)
provisioning = Provisioning(read, scim)


# ---- the web application ---------------------------------------------------------------------------------------------


def create_app() -> Flask:
    """The application, configured by the file that IDENTITY_CONFIG names."""
    app = Flask(__name__)
    with open(os.environ["IDENTITY_CONFIG"], "rb") as file:
        app.config.from_mapping(tomllib.load(file))
    queue.init_app(app)
    app.add_url_rule("/people", view_func=sign_up, methods=["POST"])
    app.add_url_rule("/people/<id>", view_func=rename, methods=["POST"])
    app.add_url_rule("/people/<id>/leave", view_func=leave, methods=["POST"])
    app.add_url_rule("/codes", view_func=send_code, methods=["POST"])
    app.add_url_rule("/jobs/<id>", view_func=show_job)
    app.teardown_appcontext(close_database)
    return app


def sign_up() -> tuple[dict[str, Any], int]:
    person = {"id": uuid.uuid4().hex, **{key: request.form[key] for key in ("name", "mail", "team")}}
    change("insert into people values (:id, :name, :mail, :team)", person)
    welcome = Mail(
        to=f"{person['name']} <{person['mail']}>",
        subject=f"Welcome, {person['name']}",
        text="Your account is ready.",
        html='<p>Your account is ready. <img src="cid:logo"></p>',
        attachments=[
            Attachment(filename="logo.gif", content=LOGO, content_id="logo"),
            Attachment(filename="terms.txt", content=TERMS),
        ],
    )
    results = [*mailer.send(welcome), *tell(person["id"], person["team"])]
    return {"id": person["id"], "jobs": [result.id for result in results]}, 202


def rename(id: str) -> tuple[dict[str, Any], int]:
    change("update people set name = ? where id = ?", [request.form["name"], id])
    return {"jobs": [result.id for result in provisioning.changed("user", id)]}, 202


def leave(id: str) -> tuple[dict[str, Any], int]:
    [team] = database().execute("select team from people where id = ?", [id]).fetchone()
    change("delete from people where id = ?", [id])
    return {"jobs": [result.id for result in tell(id, team)]}, 202


def send_code() -> tuple[dict[str, Any], int]:
    results = texter.send(Sms(to=request.form["to"], text=f"Your code is {request.form['code']}"))
    return {"jobs": [result.id for result in results]}, 202


def show_job(id: str) -> dict[str, Any]:
    try:
        result = outwork.get_result(id)
    except JobNotFound as error:
        abort(404, str(error))
    return {
        "state": result.state,
        "attempts": result.attempts,
        "value": result.return_value if result.state == "SUCCESSFUL" else None,
        "errors": [error.message for error in result.errors],
    }


def tell(id: str, team: str) -> list[outwork.TaskResult[str]]:
    return provisioning.changed("user", id) + provisioning.changed("group", team)


# ---- the database ----------------------------------------------------------------------------------------------------


def database() -> sqlite3.Connection:
    if "database" not in g:
        g.database = sqlite3.connect(current_app.config["DATABASE"], timeout=30)
        g.database.execute("create table if not exists people (id primary key, name, mail, team)")
    connection: sqlite3.Connection = g.database
    return connection


def change(statement: str, values: Any) -> None:
    with database():  # committed before anybody is told
        database().execute(statement, values)


def close_database(error: BaseException | None) -> None:
    connection = g.pop("database", None)
    if connection is not None:
        connection.close()


# ---- the command line ------------------------------------------------------------------------------------------------


@click.group(cls=FlaskGroup, create_app=create_app)
def main() -> None:
    """The identity server."""


main.add_command(worker_command)

if __name__ == "__main__":
    main()
