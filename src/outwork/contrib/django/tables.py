"""The tables and who makes them: Django's migrations run our numbered files, and both migrators write the version into
one table (`outwork_meta`), so either may come first."""

from __future__ import annotations

from itertools import chain
from typing import Any

from django.core import mail
from django.db import connections, router
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import CreateModel
from django.db.migrations.operations.base import Operation

from outwork.brokers.sql.migrate import TABLES, undo
from outwork.brokers.sql.names import PREFIX
from outwork.contrib.django.database import VENDORS, DatabaseBroker
from outwork.contrib.django.database.joined import JoinedBroker

LABEL = "outwork"


def broker_on(alias: str) -> JoinedBroker | None:
    """The jobs on Django's connection; None for a database for which there is no broker."""
    if connections[alias].vendor not in VENDORS:
        return None
    return DatabaseBroker(alias).joined


class RunSchemaFiles(Operation):
    """Bring our tables up to the numbered file `to`, as far as they are not there yet."""

    reduces_to_sql = True
    reversible = True

    def __init__(self, to: int) -> None:
        self.to = to

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__qualname__, [], {"to": self.to}

    def state_forwards(self, app_label: str, state: Any) -> None:
        """The models say nothing of the tables."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        alias = schema_editor.connection.alias
        joined = broker_on(alias)
        if joined is None or not router.allow_migrate(alias, app_label):
            return
        database = joined.database
        at = 0 if schema_editor.collect_sql else database.standing().version
        for step in database.steps():
            if at < step.number <= self.to:
                for statement in step.statements:
                    schema_editor.execute(statement, params=None)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        alias = schema_editor.connection.alias
        joined = broker_on(alias)
        if joined is None or not router.allow_migrate(alias, app_label):
            return
        if schema_editor.collect_sql or joined.database.standing().version == self.to:
            for statement in undo(self.to, PREFIX):
                schema_editor.execute(statement, params=None)

    def describe(self) -> str:
        return f"Bring the tables of Outwork to version {self.to}"


class CreateUnlessThere(CreateModel):
    """Make a table of Django's own kind, unless it was made while migrations were switched off; remove it unless a
    router has kept it away."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.collect_sql or not self._is_there(schema_editor.connection):
            super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.collect_sql or self._is_there(schema_editor.connection):
            super().database_backwards(app_label, schema_editor, from_state, to_state)

    def _is_there(self, connection: Any) -> bool:
        with connection.cursor() as cursor:
            return self.options["db_table"] in connection.introspection.table_names(cursor)


def after_migrate(*, using: str, plan: Any = None, **named: Any) -> None:
    """Make the tables where migrations are switched off (`MIGRATION_MODULES`), and empty them where a test's `flush`
    has emptied all others: Django flushes the tables of managed models only."""
    if not router.allow_migrate(using, LABEL):
        return
    joined = broker_on(using)
    if joined is None:
        return
    if MigrationLoader.migrations_module(LABEL)[0] is None:
        joined.migrate()
    elif plan is None and hasattr(mail, "outbox") and joined.database.standing().version:
        with connections[using].cursor() as cursor:
            for name in chain.from_iterable(TABLES.values()):
                if name != "meta":
                    cursor.execute(f"DELETE FROM {PREFIX}{name}")
