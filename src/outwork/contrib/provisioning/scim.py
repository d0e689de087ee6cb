"""One SCIM 2 server, as far as provisioning needs it. Resources are named by our ids, which are their `externalId`."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal, TypeAlias, cast

import httpx2
from scim2_client import SCIMClientException
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_models import EnterpriseUser, Group, ResourceType, ScimProvider, SearchRequest, User

from outwork.contrib.answers import judge, unlogged
from outwork.contrib.provisioning.settings import ScimClient
from outwork.errors import TryAgain

Kind: TypeAlias = Literal["user", "group"]
AnyUser: TypeAlias = User[EnterpriseUser]  # pyright: ignore[reportInvalidTypeArguments]

MODELS: Final[Mapping[Kind, type[Any]]] = {"user": User[EnterpriseUser], "group": Group}
_PROVIDER: Final = ScimProvider(
    models=[User, EnterpriseUser, Group], resource_types=[ResourceType.from_resource(one) for one in MODELS.values()]
)
BATCH: Final = 40
"""Resources that are looked up by one filter."""
_GONE: Final = 404
_CONFLICT: Final = 409


class Gone(Exception):
    """The resource is not there (any more)."""


class Conflict(Exception):
    """Another resource is in the way; the text is the server's answer."""


class Receiver:
    """A session with a server. Errors of its network, and answers that are none of a SCIM server, are TryAgain; a
    refusal is GiveUp."""

    def __init__(self, name: str, client: ScimClient, http: httpx2.Client) -> None:
        self.name = name
        self.place = f"{name} ({httpx2.URL(client.url).host})"
        self._http = http
        # Answers are read leniently, for no more than the ids in them: a server's other peculiarities are its own.
        self._scim = SyncSCIMClient(
            http, provider=_PROVIDER, check_response_payload=False, check_response_content_type=False
        )

    def find(self, kind: Kind, id: str) -> list[str]:
        """The server's ids of a resource of ours, the oldest first: more than one if it was created twice."""
        return [remote for ours, remote in self._search(kind, f"externalId eq {json.dumps(id)}") if ours == id]

    def find_all(self, kind: Kind, ids: Iterable[str]) -> dict[str, str]:
        """The server's ids of many resources of ours, by our ids; of those that are there."""
        wanted = list(dict.fromkeys(ids))
        found: dict[str, str] = {}
        for begin in range(0, len(wanted), BATCH):
            some = wanted[begin : begin + BATCH]
            filter_ = " or ".join(f"externalId eq {json.dumps(id)}" for id in some)
            for ours, remote in self._search(kind, filter_):
                if ours in some:
                    found.setdefault(ours, remote)
        return found

    def find_stranger(self, user_name: str) -> str | None:
        """The server's id of a user of this name that has no `externalId`: one that was there before us."""
        found = self._search("user", f"userName eq {json.dumps(user_name)}", "userName")
        return next((remote for ours, remote in found if not ours), None)

    def create(self, resource: Any) -> None:
        """Raises Conflict."""
        with self._asking():
            self._scim.create(resource)

    def replace(self, resource: Any) -> None:
        """The one with the resource's `id`. Raises Gone, Conflict."""
        with self._asking():
            self._scim.replace(resource)

    def delete(self, kind: Kind, remote: str) -> None:
        """By the server's id. One that is gone is well gone."""
        try:
            with self._asking():
                self._scim.delete(MODELS[kind], remote)
        except Gone:
            return

    def _search(self, kind: Kind, filter_: str, *attributes: str) -> list[tuple[str | None, str]]:
        """(our id, the server's id) of each resource that it finds, the oldest first.

        Whoever calls compares the ids: a server that knows no filters may return all that it has.
        """
        asked: Any = SearchRequest.model_validate(
            {"filter": filter_, "attributes": ["externalId", "meta", *attributes]}
        )
        with self._asking():
            answer = self._scim.query(MODELS[kind], query_parameters=asked)
        try:
            resources = cast("dict[str, Any]", answer).get("Resources") or []
            each = [
                (str(one.get("meta", {}).get("created") or ""), str(one["id"]), one.get("externalId"))
                for one in resources
            ]
        except (AttributeError, KeyError, TypeError) as error:
            raise TryAgain(f"{self.place} speaks no SCIM: {type(error).__name__} in a list of resources") from error
        return [(ours, remote) for _, remote, ours in sorted(each, key=lambda one: one[:2])]

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except SCIMClientException as error:
            cause = error.__cause__ or error
            raise TryAgain(f"{self.place}: {type(cause).__name__}: {cause}") from None


@contextmanager
def connected(name: str, client: ScimClient) -> Iterator[Receiver]:
    """A session with a client's server."""
    context = ssl.create_default_context(cafile=client.ca_file or None)
    headers = {"Authorization": f"Bearer {client.token}"} if client.token else {}
    with (
        unlogged(),
        httpx2.Client(
            base_url=client.url, headers=headers, timeout=client.timeout, verify=context, follow_redirects=False
        ) as http,
    ):
        receiver = Receiver(name, client, http)
        http.event_hooks = {"response": [_judging(receiver.place)]}
        yield receiver


def _judging(place: str) -> Callable[[httpx2.Response], None]:
    def look(answer: httpx2.Response) -> None:
        if answer.status_code == _GONE and answer.request.method in ("PUT", "DELETE"):
            raise Gone(place)
        if answer.status_code == _CONFLICT:
            answer.read()
            raise Conflict(f"{place} answered: 409 {' '.join(answer.text.split())[:300]}")
        judge(place, answer)

    return look
