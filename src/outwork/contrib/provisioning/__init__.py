"""Users and groups, told to other applications by SCIM 2.

    def read(client: str, kind: Kind, id: str) -> User[Any] | None: ...        # the resource as it is now

    provisioning = Provisioning(read)     # [provisioning.clients.NAME] of outwork.toml, or Provisioning(..., settings)

    provisioning.changed("user", "ada")   # was created, changed or deleted

One job for each resource and client. It carries no more than the names of both: an attempt reads what the resource is
now, and makes the other side the same, found by its `externalId`. So jobs may run in any order, on any number of
workers, and as often as it happens; the last state is what remains. An application that is away is told for about 24
hours; a refusal for good ends the job FAILED at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from outwork.app import Outwork
from outwork.contrib.provisioning.settings import ProvisioningSettings, ScimClient
from outwork.contrib.remote import FOR_A_DAY, Remote, need
from outwork.declaring.options import When
from outwork.errors import GiveUp, InvalidMessage, SettingsError
from outwork.job import DEFAULT_QUEUE
from outwork.result import TaskResult
from outwork.retry import Retry
from outwork.task import Call, Task

__all__ = ["Change", "Kind", "Provisioning", "ProvisioningSettings", "ScimClient"]

Kind: TypeAlias = Literal["user", "group"]
ReadResource: TypeAlias = Callable[[str, Kind, str], Any]
"""(client, kind, id) -> the resource as that client is to see it now: a User or Group of scim2_models, or a mapping as
SCIM writes it; None if it is not to see it (any more). Members of a group are named by our ids.

It is asked before and after the client is told, so it must look anew each time: a session that remembers the row it has
read (SQLAlchemy's identity map), or a transaction that shows the same moment for ever, hides a change in between."""

TIME_LIMIT = 600.0
"""Seconds for an attempt: a group may have many members that are told, too."""


class Change(Struct, frozen=True, kw_only=True):
    """What a job carries: that something of a resource has changed, and who is told."""

    client: str
    kind: Kind
    id: str


class Provisioning(Remote[ProvisioningSettings]):
    """Tells the clients of an application (None: the default one). Make it where tasks are declared.

    `read` is called where the job runs, in the context of the application as any task. `name` is that of the task.
    """

    def __init__(
        self,
        read: ReadResource,
        settings: ProvisioningSettings | Callable[[], ProvisioningSettings] | None = None,
        *,
        app: Outwork | None = None,
        name: str = "outwork.provisioning",
        queue_name: str = DEFAULT_QUEUE,
        retry: Retry | None = FOR_A_DAY,
    ) -> None:
        need("scim2_client", "scim", "outwork.contrib.provisioning")
        need("httpx2", "scim", "outwork.contrib.provisioning")
        super().__init__("provisioning", ProvisioningSettings, settings, app)
        self.declared_as(name)
        self._read = read
        # With a limit of one running job for each resource and client, no two attempts would meet at all; it is not
        # needed for the right end, but saves the requests of those that meet.
        declare = self.app.task(name=name, queue_name=queue_name, retry=retry, timeout=TIME_LIMIT)
        self.task: Task[[Change], str] = declare(self._propagate)

    def changed(
        self,
        kind: Kind,
        *ids: str,
        clients: Iterable[str] | None = None,
        run_after: When | None = None,
        connection: object | None = None,
    ) -> list[TaskResult[str]]:
        """Enqueue that these resources were created, changed or deleted, for all clients or for those that are named.

        One result for each client and resource; its value says what was done: "created", "replaced", "deleted", or
        "absent". `run_after` and `connection` are those of `using`: with the connection of the change, both are in one
        transaction. Raises InvalidMessage, SettingsError, and what `enqueue` raises.
        """
        return self.app.enqueue_many(
            self.calls(kind, *ids, clients=clients, run_after=run_after), connection=connection
        )

    async def achanged(
        self,
        kind: Kind,
        *ids: str,
        clients: Iterable[str] | None = None,
        run_after: When | None = None,
        connection: object | None = None,
    ) -> list[TaskResult[str]]:
        """As `changed`, without blocking the event loop."""
        calls = self.calls(kind, *ids, clients=clients, run_after=run_after)
        return await self.app.aenqueue_many(calls, connection=connection)

    def calls(
        self, kind: Kind, *ids: str, clients: Iterable[str] | None = None, run_after: When | None = None
    ) -> list[Call[str]]:
        """The calls that `changed` enqueues, to be enqueued together with others."""
        known = self.settings.clients
        named = list(known if clients is None else clients)
        if unknown := [name for name in named if name not in known]:
            raise SettingsError(f"no client is named {', '.join(unknown)}. Add [provisioning.clients.{unknown[0]}]")
        if kind not in ("user", "group") or not all(isinstance(id, str) and id for id in ids):  # pyright: ignore
            raise InvalidMessage(f"{kind!r}, {ids!r}: write 'user' or 'group', and ids that are texts")
        task = self.task.using(run_after=run_after)
        return [task.bind(Change(client=name, kind=kind, id=id)) for id in ids for name in named]

    def _propagate(self, change: Change) -> str:
        from outwork.contrib.provisioning.reconcile import reconcile  # these load pydantic,
        from outwork.contrib.provisioning.scim import connected  # which a web process does not need

        client = self.settings.clients.get(change.client)
        if client is None:
            raise GiveUp(f"no client is named {change.client} any more")
        with connected(change.client, client) as receiver:
            return reconcile(receiver, partial(self._read, change.client), change.kind, change.id)
