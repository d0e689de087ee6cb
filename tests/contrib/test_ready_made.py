"""Row C7 of the mission: mail, text messages and provisioning of an identity server, end to end. The example is run as
its operator runs it; the servers on the other side are real, and away at first. The other brokers and frameworks are in
`test_ready_made_everywhere`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from support.mail_server import MailServer
from support.place import Place, get, place_in, post
from support.scim_server import ScimServer
from support.sites import Site
from support.smpp_server import INVALID_DESTINATION, SmppServer
from support.waiting import until

EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "identity-server"


class World(NamedTuple):
    """The application's place, and the servers on the other side."""

    place: Place
    mail: MailServer
    texts: SmppServer
    wiki: ScimServer
    chat: ScimServer

    def configure(self, broker: str) -> None:
        line = f'BROKER_URL = "{broker}"' if broker else ""
        self.place.write(
            "identity.toml",
            f"""
DATABASE = "identity.sqlite"
{line}
[SMTP]
host = "127.0.0.1"
port = {self.mail.port}
sender = "identity@example.org"
[SMPP]
host = "127.0.0.1"
port = {self.texts.port}
user = "identity"
password = "secret"
sender = "Identity"
[SCIM.wiki]
url = "{self.wiki.url}"
token = "wiki-token"
[SCIM.chat]
url = "{self.chat.url}"
token = "chat-token"
""",
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    shutil.copy(EXAMPLE / "identity.py", tmp_path)
    servers = (MailServer(), SmppServer(), ScimServer("wiki-token"), ScimServer("chat-token"))
    try:
        with place_in(tmp_path, IDENTITY_CONFIG="identity.toml") as place:
            yield World(place, *servers)
    finally:
        for server in servers:
            server.stop()


def asked(site: Site, path: str, **form: Any) -> dict[str, Any]:
    answer = post(site, path, **form)
    assert answer.status == 202, answer.text + site.text()
    found: dict[str, Any] = json.loads(answer.text)
    return found


def job(site: Site, job_id: str) -> dict[str, Any]:
    answer = get(site, f"/jobs/{job_id}")
    assert answer.status == 200, answer.text + site.text()
    found: dict[str, Any] = json.loads(answer.text)
    return found


def errors(site: Site, job_id: str) -> list[str]:
    found: list[str] = job(site, job_id)["errors"]
    return found


def ended(site: Site, job_id: str) -> dict[str, Any]:
    until(lambda: job(site, job_id)["state"] in ("SUCCESSFUL", "FAILED"), f"the end of job {job_id}", seconds=90)
    return job(site, job_id)


def everything_is_done_once(world: World, broker: str) -> None:
    """The other side is away, and comes back: each thing is tried again, and done once."""
    world.configure(broker)
    servers = (world.mail, world.texts, world.wiki, world.chat)
    for server in servers:
        server.stop()
    site = world.place.gunicorn("identity:create_app()", "-w", "1")
    signed_up = asked(site, "/people", name="ada", mail="ada@example.org", team="staff")
    jobs = [*signed_up["jobs"], *asked(site, "/codes", to="+49 170 1234567", code="4711")["jobs"]]
    assert len(jobs) == 6  # a mail, a user and a group for two clients, a text message
    worker = world.place.worker("identity", "worker")
    for job_id in jobs:
        until(partial(errors, site, job_id), f"the first attempt of {job_id}")
    for server in servers:
        server.start()
    ends = [ended(site, job_id) for job_id in jobs]
    assert {one["state"] for one in ends} == {"SUCCESSFUL"}
    assert all(one["attempts"] >= 2 and "refused" in one["errors"][0] for one in ends)
    what_was_received(world, signed_up["id"])
    refused_for_good(world, site)
    person = signed_up["id"]
    changes = [asked(site, f"/people/{person}", name=name)["jobs"] for name in ("ada.l", "ada.lovelace")]
    changes.append(asked(site, f"/people/{person}/leave")["jobs"])
    for job_id in chain.from_iterable(changes):
        assert ended(site, job_id)["state"] == "SUCCESSFUL"
    for server in (world.wiki, world.chat):
        assert person not in server.names()
    assert worker.stop() == 0
    assert "secret" not in worker.text()
    assert "-token" not in worker.text()


def what_was_received(world: World, person: str) -> None:
    [mail] = world.mail.mails
    assert mail.recipients == ("ada@example.org",)
    message = mail.message
    assert message["Subject"] == "Welcome, ada"
    types = [part.get_content_type() for part in message.walk() if not part.is_multipart()]
    assert types == ["text/plain", "text/html", "image/gif", "text/plain"]
    assert next(message.iter_attachments()).get_content() == "Be kind to each other.\n"
    [text] = world.texts.messages
    assert text.octets == b"Your code is 4711"
    for server in (world.wiki, world.chat):
        assert server.names() == {person: "ada"}
        [group] = server.all("Group")
        [user] = server.all("User")
        assert [member["value"] for member in group["members"]] == [user["id"]]


def refused_for_good(world: World, site: Site) -> None:
    """One attempt, and the server's answer in the error."""
    world.mail.answers["bob@example.org"] = "550 5.1.1 no such user"
    world.texts.statuses = [INVALID_DESTINATION]
    mail = asked(site, "/people", name="bob", mail="bob@example.org", team="staff")["jobs"][0]
    [text] = asked(site, "/codes", to="+49170", code="1")["jobs"]
    for job_id, answer in ((mail, "550 5.1.1 no such user"), (text, "0x0000000B")):
        found = ended(site, job_id)
        assert (found["state"], found["attempts"]) == ("FAILED", 1)
        assert answer in found["errors"][0]
    assert (len(world.mail.mails), len(world.texts.messages)) == (1, 1)


def test_row_C7_on_a_file(world: World) -> None:
    everything_is_done_once(world, "sqlite:///broker.sqlite")


def test_row_C7_in_the_request(world: World) -> None:
    """Without a broker each task runs before the request is answered, in one attempt, and never breaks the request."""
    world.configure("")
    site = world.place.gunicorn("identity:create_app()", "-w", "1")
    signed_up = asked(site, "/people", name="ada", mail="ada@example.org", team="staff")
    asked(site, "/codes", to="+49 170 1234567", code="4711")
    what_was_received(world, signed_up["id"])
    world.mail.stop()
    [failed, *_] = asked(site, "/people", name="eve", mail="eve@example.org", team="staff")["jobs"]
    assert job(site, failed)["state"] == "FAILED"


def test_the_configuration_of_the_example_is_whole(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "example", ignore=shutil.ignore_patterns("*.sqlite*", "__pycache__"))
    with place_in(tmp_path / "example", IDENTITY_CONFIG="identity.toml") as place:
        said = place.run("identity", "worker", "--drain", "--verbose")
        for task in ("outwork.mail", "outwork.sms", "outwork.provisioning"):
            assert task in said
