"""Users and groups on real SCIM servers: created, replaced, deleted, in any order, by many workers at once."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from scim2_models import Email, EnterpriseUser, Name, User

from outwork import Outwork, Retry, State
from outwork.contrib.provisioning import Kind, Provisioning, ProvisioningSettings, ScimClient
from outwork.errors import InvalidMessage, SettingsError, TaskFailed
from outwork.testing import LocalWorker
from support.inside import memory_app, working
from support.mail_server import NonsenseServer
from support.scim_server import ScimServer
from support.waiting import until

TOKEN = "wiki-token"


class Directory:
    """The users and groups of an application, as one client is to see them."""

    def __init__(self) -> None:
        self.users: dict[str, str] = {}
        self.groups: dict[str, list[str]] = {}
        self.hidden: set[tuple[str, str]] = set()
        """(client, id): of whom this client is not to know."""

    def read(self, client: str, kind: Kind, id: str) -> Any:
        if (client, id) in self.hidden:
            return None
        if kind == "user":
            return User(user_name=self.users[id], active=True) if id in self.users else None
        members = self.groups.get(id)
        if members is None:
            return None
        return {
            "displayName": f"The {id}",
            "members": [{"value": one, "type": "Group" if one in self.groups else "User"} for one in members],
        }


@pytest.fixture
def server() -> Iterator[ScimServer]:
    server = ScimServer(TOKEN)
    yield server
    server.stop()


@pytest.fixture
def directory() -> Directory:
    return Directory()


def client_for(server: ScimServer, token: str = TOKEN) -> ScimClient:
    return ScimClient(url=server.url, token=token, timeout=5.0)


@pytest.fixture
def provisioning(app: Outwork, server: ScimServer, directory: Directory) -> Provisioning:
    return Provisioning(directory.read, ProvisioningSettings(clients={"wiki": client_for(server)}), app=app)


# ---- the life of a user and of a group -------------------------------------------------------------------------------


def test_a_user_is_created_replaced_and_deleted(
    provisioning: Provisioning, worker: LocalWorker, server: ScimServer, directory: Directory
) -> None:
    done: list[str] = []
    for name in ("ada", "ada.lovelace", None, None):
        if name is None:
            directory.users.clear()
        else:
            directory.users["u1"] = name
        [result] = provisioning.changed("user", "u1")
        worker.drain()
        done.append(result.get())
        assert server.names() == ({"u1": name} if name else {})
    assert done == ["created", "replaced", "deleted", "absent"]


def test_a_job_carries_no_more_than_names(
    provisioning: Provisioning, worker: LocalWorker, directory: Directory
) -> None:
    directory.users["u1"] = "ada"
    provisioning.changed("user", "u1")
    [job] = worker.jobs
    [change] = job.arguments.values()
    assert (change.client, change.kind, change.id) == ("wiki", "user", "u1")
    assert TOKEN not in repr(job)


def test_more_of_a_user(app: Outwork, worker: LocalWorker, server: ScimServer) -> None:
    user = User[EnterpriseUser](user_name="ada", name=Name(given_name="Ada"), emails=[Email(value="a@b.de")])
    user[EnterpriseUser] = EnterpriseUser(employee_number="42")
    settings = ProvisioningSettings(clients={"wiki": client_for(server)})
    [result] = Provisioning(lambda client, kind, id: user, settings, app=app).changed("user", 'quote"\\and ü')
    worker.drain()
    assert result.get() == "created"
    [stored] = server.all("User")
    assert stored["externalId"] == 'quote"\\and ü'
    assert stored["name"]["givenName"] == "Ada"
    assert stored["emails"][0]["value"] == "a@b.de"
    assert stored["urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"]["employeeNumber"] == "42"


def members_of(server: ScimServer, name: str) -> set[str]:
    """The external ids of the members of a group."""
    ours = {one["id"]: one["externalId"] for kind in ("User", "Group") for one in server.all(kind)}
    [group] = [one for one in server.all("Group") if one["displayName"] == name]
    return {ours[member["value"]] for member in group.get("members", [])}


def test_a_group_tells_of_its_members_first(
    provisioning: Provisioning, worker: LocalWorker, server: ScimServer, directory: Directory
) -> None:
    directory.users = {f"u{number}": f"user{number}" for number in range(50)}
    directory.groups["staff"] = [*directory.users, "somebody who left"]
    [result] = provisioning.changed("group", "staff")
    worker.drain()
    assert result.get() == "created"
    assert server.names("Group") == {"staff": "The staff"}
    assert members_of(server, "The staff") == set(directory.users)
    directory.groups["staff"] = ["u1"]
    provisioning.changed("group", "staff")
    worker.drain()
    assert members_of(server, "The staff") == {"u1"}
    del directory.groups["staff"]
    provisioning.changed("group", "staff")
    worker.drain()
    assert server.names("Group") == {}
    assert len(server.names()) == 50


def test_a_group_in_a_group_waits_for_it(
    provisioning: Provisioning, worker: LocalWorker, server: ScimServer, directory: Directory
) -> None:
    directory.groups = {"all": ["staff"], "staff": []}
    outer, inner = provisioning.changed("group", "all", "staff")
    worker.drain(retries=False)
    assert inner.get() == "created"
    worker.clock.move(60)
    worker.drain(retries=False)
    assert outer.get() == "created"
    assert members_of(server, "The all") == {"staff"}


def test_clients_have_tokens_and_views_of_their_own(app: Outwork, worker: LocalWorker, directory: Directory) -> None:
    wiki, chat = ScimServer("wiki-token"), ScimServer("chat-token")
    try:
        clients = {"wiki": client_for(wiki, "wiki-token"), "chat": client_for(chat, "chat-token")}
        provisioning = Provisioning(directory.read, ProvisioningSettings(clients=clients), app=app)
        directory.users = {"u1": "ada", "u2": "bob"}
        directory.hidden = {("chat", "u2")}
        assert len(provisioning.changed("user", "u1", "u2")) == 4
        worker.drain()
        assert (wiki.names(), chat.names()) == ({"u1": "ada", "u2": "bob"}, {"u1": "ada"})
        directory.users["u1"] = "ada.lovelace"
        provisioning.changed("user", "u1", clients=["chat"])
        worker.drain()
        assert (wiki.names()["u1"], chat.names()["u1"]) == ("ada", "ada.lovelace")
        with pytest.raises(SettingsError, match="no client is named mail"):
            provisioning.changed("user", "u1", clients=["mail"])
    finally:
        wiki.stop()
        chat.stop()


# ---- order, repetition, company --------------------------------------------------------------------------------------


def test_an_old_job_that_comes_late_changes_nothing(
    provisioning: Provisioning, worker: LocalWorker, server: ScimServer, directory: Directory
) -> None:
    directory.users["u1"] = "ada"
    server.trouble = [("503 Busy", [])]
    [first] = provisioning.changed("user", "u1")
    worker.drain(retries=False)
    del directory.users["u1"]
    [second] = provisioning.changed("user", "u1")
    worker.drain(retries=False)
    assert second.get() == "absent"
    worker.clock.move(3600)
    worker.drain(retries=False)
    assert first.get() == "absent"
    assert server.names() == {}


def test_a_change_while_the_server_is_told(
    provisioning: Provisioning, worker: LocalWorker, server: ScimServer, directory: Directory
) -> None:
    """The attempt has read the old name when the new one is written; its own job has been done by another worker."""
    directory.users["u1"] = "ada"

    def change(method: str, path: str) -> None:
        if method == "POST":
            directory.users["u1"] = "ada.lovelace"

    server.before = change
    [result] = provisioning.changed("user", "u1")
    worker.drain()
    assert result.get() == "replaced"
    assert server.names() == {"u1": "ada.lovelace"}


def test_a_user_who_is_deleted_while_the_server_is_told(
    provisioning: Provisioning, worker: LocalWorker, server: ScimServer, directory: Directory
) -> None:
    directory.users["u1"] = "ada"
    server.before = lambda method, path: directory.users.clear() if method == "POST" else None
    [result] = provisioning.changed("user", "u1")
    worker.drain()
    assert result.get() == "deleted"
    assert server.names() == {}


def test_a_user_who_changes_all_the_time(
    provisioning: Provisioning, worker: LocalWorker, server: ScimServer, directory: Directory
) -> None:
    numbers = iter(range(1000))
    provisioning._read = lambda client, kind, id: User(user_name=f"ada{next(numbers)}")
    [result] = provisioning.changed("user", "u1")
    worker.drain(retries=False)
    result.refresh()
    assert "changes faster than" in result.errors[0].message


@pytest.mark.parametrize("kind", ["User", "Group"])
def test_an_answer_that_is_lost(
    provisioning: Provisioning, worker: LocalWorker, server: ScimServer, directory: Directory, kind: str
) -> None:
    directory.users["x"], directory.groups["x"] = "ada", []
    server.lose = True
    [result] = provisioning.changed("user" if kind == "User" else "group", "x")
    assert worker.drain() == 2
    assert result.get() == "replaced"
    assert list(server.names(kind)) == ["x"]


def test_what_was_created_twice_is_one_again(
    provisioning: Provisioning, worker: LocalWorker, server: ScimServer, directory: Directory
) -> None:
    """Two workers that create a group at one moment: nothing but the name tells the server that it is one."""
    directory.groups["staff"] = []
    server.before = lambda method, path: create_beside(server) if method == "POST" else None
    [result] = provisioning.changed("group", "staff")
    worker.drain()
    assert result.get() == "replaced"
    assert len(server.all("Group")) == 1


def create_beside(server: ScimServer) -> None:
    """Another worker is a moment faster."""
    server.before = lambda method, path: None
    body = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": "Old", "externalId": "staff"}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    httpx2.post(f"{server.url}/Groups", json=body, headers=headers, trust_env=False).raise_for_status()


def test_a_user_who_was_there_before_us_is_taken_over(
    provisioning: Provisioning, worker: LocalWorker, server: ScimServer, directory: Directory
) -> None:
    body = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "ada"}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    httpx2.post(f"{server.url}/Users", json=body, headers=headers, trust_env=False).raise_for_status()
    directory.users["u1"] = "ada"
    [result] = provisioning.changed("user", "u1")
    worker.drain()
    assert result.get() == "replaced"
    assert server.names() == {"u1": "ada"}


def test_a_name_that_is_still_another_users(
    provisioning: Provisioning, worker: LocalWorker, server: ScimServer, directory: Directory
) -> None:
    """Ada has left and another Ada has come, and the job of the second one runs first."""
    directory.users = {"u1": "ada"}
    provisioning.changed("user", "u1")
    worker.drain()
    directory.users = {"u2": "ada"}
    [came] = provisioning.changed("user", "u2")
    [left] = provisioning.changed("user", "u1")
    worker.drain(retries=False)
    came.refresh()
    assert (came.state, left.get()) == (State.SCHEDULED, "deleted")
    assert "409" in came.errors[0].message
    worker.clock.move(60)
    worker.drain(retries=False)
    assert came.get() == "created"
    assert server.names() == {"u2": "ada"}


def test_many_workers_and_changes_without_order(server: ScimServer, directory: Directory) -> None:
    """Eight threads of two workers tell of users and groups that are changed all the time: what remains is the end."""
    app, _ = memory_app()
    settings = ProvisioningSettings(clients={"wiki": client_for(server)})
    dice = random.Random(7)
    lock = threading.Lock()

    def read(client: str, kind: Kind, id: str) -> Any:
        with lock:
            return directory.read(client, kind, id)

    hasty = Retry(max_attempts=100, delay=0.02, max_delay=0.2)
    provisioning = Provisioning(read, settings, app=app, retry=hasty)
    results: list[Any] = []
    with working(app, concurrency=4), working(app, concurrency=4):
        for step in range(30):
            user = f"u{dice.randrange(3)}"
            with lock:
                if dice.random() < 0.3:
                    directory.users.pop(user, None)
                else:
                    directory.users[user] = f"{user}-{step}"
                directory.groups["staff"] = dice.sample(["u0", "u1", "u2"], dice.randrange(4))
            results += provisioning.changed("user", user) + provisioning.changed("group", "staff")
        until(lambda: all(ended(result) for result in results), "the end of all jobs", seconds=90)
        assert {result.state for result in results} == {State.SUCCESSFUL}
    assert server.names() == directory.users
    assert server.names("Group") == {"staff": "The staff"}
    assert members_of(server, "The staff") == set(directory.groups["staff"]) & set(directory.users)


def ended(result: Any) -> bool:
    if not result.state.finished:
        result.refresh()
    return bool(result.state.finished)


# ---- a server in trouble ---------------------------------------------------------------------------------------------


def test_a_server_that_is_away_and_comes_back(
    provisioning: Provisioning, worker: LocalWorker, server: ScimServer, directory: Directory
) -> None:
    directory.users["u1"] = "ada"
    server.stop()
    [result] = provisioning.changed("user", "u1")
    for _ in range(3):
        worker.clock.move(timedelta(hours=2))
        worker.drain(retries=False)
    result.refresh()
    assert "ConnectError" in result.errors[-1].message
    server.start()
    worker.clock.move(timedelta(hours=2))
    worker.drain(retries=False)
    assert result.get() == "created"
    assert server.names() == {"u1": "ada"}


def test_busy_and_when_to_come_back(
    provisioning: Provisioning, worker: LocalWorker, server: ScimServer, directory: Directory
) -> None:
    directory.users["u1"] = "ada"
    server.trouble = [("429 Too Many Requests", [("Retry-After", "3000")])]
    [result] = provisioning.changed("user", "u1")
    worker.drain(retries=False)
    worker.clock.move(2900)
    assert worker.drain(retries=False) == 0
    worker.clock.move(500)
    worker.drain(retries=False)
    assert result.get() == "created"


@pytest.mark.parametrize(
    "status", ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "302 Found"]
)
def test_refused_for_good(
    provisioning: Provisioning, worker: LocalWorker, server: ScimServer, directory: Directory, status: str
) -> None:
    directory.users["u1"] = "ada"
    server.trouble = [(status, [("Location", "/elsewhere")] if status.startswith("3") else [])]
    [result] = provisioning.changed("user", "u1")
    assert worker.drain() == 1
    with pytest.raises(TaskFailed, match=f"wiki .*{status}.*in front of the server"):
        result.get()


def test_a_wrong_token(
    app: Outwork, worker: LocalWorker, server: ScimServer, directory: Directory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = ProvisioningSettings(clients={"wiki": client_for(server, "hunter2")})
    [result] = Provisioning(directory.read, settings, app=app).changed("user", "u1")
    assert worker.drain() == 1
    with pytest.raises(TaskFailed, match="401") as caught:
        result.get()
    assert "hunter2" not in caplog.text + repr(settings) + str(caught.value)


def test_the_log_names_nobody(
    provisioning: Provisioning,
    worker: LocalWorker,
    server: ScimServer,
    directory: Directory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    directory.users["u1"] = "ada.lovelace"
    provisioning.changed("user", "u1")
    worker.drain()
    assert server.names() == {"u1": "ada.lovelace"}
    assert [record.message for record in caplog.records if record.name == "httpx2"] == []
    httpx2.get(server.url, headers={"Authorization": f"Bearer {TOKEN}"})
    assert [record.name for record in caplog.records if record.name == "httpx2"] != []  # another's request is logged


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<h1>",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n{"Resources":[{}]}',
        b"220 mail.test ESMTP\r\n",
    ],
    ids=["html", "a list", "no ids", "mail"],
)
def test_a_server_that_speaks_nonsense(app: Outwork, worker: LocalWorker, directory: Directory, said: bytes) -> None:
    server = NonsenseServer(said)
    try:
        clients = {"wiki": ScimClient(url=f"http://127.0.0.1:{server.port}/v2")}
        [result] = Provisioning(directory.read, ProvisioningSettings(clients=clients), app=app).changed("user", "u1")
        assert worker.drain(retries=False) == 1
        result.refresh()
        assert (result.state, "wiki" in result.errors[0].message) == (State.SCHEDULED, True)
    finally:
        server.close()


def test_a_server_that_ignores_the_filter_loses_nobody(
    provisioning: Provisioning, worker: LocalWorker, server: ScimServer, directory: Directory
) -> None:
    directory.users = {"u1": "ada"}
    provisioning.changed("user", "u1")
    worker.drain()

    def everybody(environ: dict[str, Any], start_response: Any, real: Any = server._application) -> Any:
        environ["QUERY_STRING"] = ""
        return real(environ, start_response)

    server._application = everybody  # type: ignore[assignment]
    [result] = provisioning.changed("user", "u2")
    worker.drain()
    assert result.get() == "absent"
    assert server.names() == {"u1": "ada"}


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_an_error(app: Outwork, worker: LocalWorker, directory: Directory) -> None:
    for url in ("wiki.example.org", "ftp://wiki/", "https://user:pw@wiki/"):
        with pytest.raises(ValueError, match="write, for example"):
            ScimClient(url=url)
    settings = ProvisioningSettings(clients={"wiki": ScimClient(url="https://wiki.example.org")})
    provisioning = Provisioning(directory.read, settings, app=app)
    with pytest.raises(InvalidMessage, match="'user' or 'group'"):
        provisioning.changed("usr", "u1")  # type: ignore[arg-type]
    with pytest.raises(InvalidMessage, match="ids that are texts"):
        provisioning.changed("user", "")
    assert worker.jobs == []


def test_what_the_application_gives_is_no_resource(app: Outwork, worker: LocalWorker, server: ScimServer) -> None:
    settings = ProvisioningSettings(clients={"wiki": client_for(server)})
    [result] = Provisioning(lambda client, kind, id: {"userName": ["Ada L."]}, settings, app=app).changed("user", "u1")
    assert worker.drain() == 1
    with pytest.raises(TaskFailed, match=r"no SCIM resource: userName: Input should be") as caught:
        result.get()
    assert "Ada L." not in str(caught.value)
