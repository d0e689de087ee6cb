"""The jobs in a database that Django knows: through Django's own connection for those who enqueue and look, through
connections of our own for the worker."""

from outwork.contrib.django.database.broker import VENDORS, DatabaseBroker, database_of

__all__ = ["VENDORS", "DatabaseBroker", "database_of"]
