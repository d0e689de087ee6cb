"""Databases for the project on servers of the tests."""

from __future__ import annotations

from typing import Any

from kiosk_project.running import Database


def postgresql(name: str) -> Database:
    """A new database on the server that the tests share."""
    from support.postgres_server import shared_postgres

    server = shared_postgres()
    server.ask(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    server.ask(f"CREATE DATABASE {name}")
    settings = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": "tester",
        "HOST": "127.0.0.1",
        "PORT": server.port,
    }
    return Database(settings, server)


def mariadb(name: str) -> Database:
    """The same on MariaDB."""
    from support.mariadb_server import shared_mariadb

    server = shared_mariadb()
    for statement in (
        f"DROP DATABASE IF EXISTS {name}",
        f"CREATE DATABASE {name} CHARACTER SET utf8mb4",
        f"GRANT ALL ON {name}.* TO tester@'%'",
    ):
        server.ask(statement, user="root", database=None)
    settings: dict[str, Any] = {
        "ENGINE": "django.db.backends.mysql",
        "NAME": name,
        "USER": "tester",
        "HOST": "127.0.0.1",
        "PORT": server.port,
    }
    return Database(settings, server)
