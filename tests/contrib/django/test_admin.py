"""The jobs in the admin: list, filters, a page, actions, permissions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings

if settings.SMALL:
    pytest.skip("this project has no admin", allow_module_level=True)

from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from kiosk import tasks

from outwork.contrib.django.testing import enqueued, run_jobs
from outwork.job import State

pytestmark = pytest.mark.usefixtures("database")
LIST = "/admin/outwork/job/"
Login = Callable[..., Client]


@pytest.fixture
def login(database: None) -> Iterator[Login]:
    made: list[User] = []

    def as_user(*permissions: str, boss: bool = False) -> Client:
        user = User.objects.create(username=f"user{len(made)}", is_staff=True, is_superuser=boss)
        made.append(user)
        ours = Permission.objects.filter(content_type__app_label="outwork")
        user.user_permissions.set(ours.filter(codename__in=permissions))
        client = Client()
        client.force_login(user)
        return client

    yield as_user
    for user in made:
        user.delete()


def page(client: Client, path: str = LIST, code: int = 200, **given: str) -> str:
    response = client.get(path, given)
    assert response.status_code == code
    return response.content.decode()


def act(client: Client, action: str, *ids: str, code: int = 302) -> None:
    given: dict[str, Any] = {"action": action, "backend": "default", "back": "state=READY"}
    response = client.post(LIST, {**given, "_selected_action": list(ids)})
    assert response.status_code == code
    if code == 302:
        assert response["Location"] == LIST + "?state=READY"


def states() -> dict[str, State]:
    from outwork.brokers.base import Filter
    from outwork.contrib.django.application import backend_of

    found = backend_of("default").store.find(Filter(), 50).records
    return {record.id: record.state for record in found}


def test_the_list_and_its_filters(login: Login) -> None:
    add, mail, fail = tasks.add.enqueue(1), tasks.mail.enqueue("ada"), tasks.fail.enqueue()
    run_jobs()
    waiting = tasks.add.enqueue(2)
    client = login(boss=True)
    assert "Outwork" in page(client, "/admin/")
    everything = page(client)
    assert all(one.id in everything for one in (add, mail, fail, waiting))
    for given, wanted in (
        ({"state": "FAILED"}, [fail]),
        ({"state": "READY"}, [waiting]),
        ({"queue": "mail"}, [mail]),
        ({"task": "kiosk.tasks.add"}, [add, waiting]),
        ({"task": "kiosk.tasks.add", "state": "SUCCESSFUL"}, [add]),
        ({"state": "NONSENSE", "queue": "none"}, []),
    ):
        said = page(client, **given)
        assert {one.id for one in (add, mail, fail, waiting) if one.id in said} == {one.id for one in wanted}


def test_pages_without_a_count(login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.test.utils import CaptureQueriesContext

    monkeypatch.setattr("outwork.contrib.django.admin.PAGE", 2)
    ids = [tasks.add.enqueue(number).id for number in range(5)]
    client = login(boss=True)
    with CaptureQueriesContext(connection) as queries:
        first = page(client)
    assert not any("count(" in query["sql"].lower() for query in queries)
    assert [one for one in reversed(ids) if one in first] == ids[:2:-1]
    assert f"after={ids[3]}" in first
    assert [one for one in reversed(ids) if f"{one}/change" in page(client, after=ids[3])] == [ids[2], ids[1]]


def test_a_job(login: Login) -> None:
    fail, echo = tasks.fail.enqueue("<b>why</b>"), tasks.echo.enqueue(1, key="value")
    run_jobs()
    client = login(boss=True)
    said = page(client, f"{LIST}{fail.id}/change/")
    assert "ValueError: &lt;b&gt;why&lt;/b&gt;" in said
    assert "Traceback (most recent call last)" in said
    assert "FAILED" in said
    said = page(client, f"{LIST}{echo.id}/change/")
    assert "&quot;key&quot;: &quot;value&quot;" in said
    assert "<h2>Result</h2>" in said
    page(client, f"{LIST}00000000-0000-7000-8000-000000000000/change/", code=404)
    page(client, f"{LIST}add/", code=403)


def test_actions(login: Login) -> None:
    client = login(boss=True)
    fail = tasks.fail.enqueue()
    run_jobs()
    later = tasks.add.using(run_after=datetime.now(UTC) + timedelta(days=1)).enqueue(1)
    other = tasks.add.enqueue(2)
    act(client, "retry", fail.id, other.id)
    assert states()[fail.id] is State.READY
    act(client, "hasten", later.id)
    assert states()[later.id] is State.READY
    act(client, "cancel", later.id)
    assert states()[later.id] is State.CANCELLED
    act(client, "delete", later.id, fail.id)
    assert list(states()) == [other.id]
    given = {"action": "cancel", "backend": "default", "_selected_action": other.id}
    response = client.post(f"{LIST}{other.id}/change/", given)
    assert response.status_code == 302
    assert states()[other.id] is State.CANCELLED


def test_permissions(login: Login) -> None:
    one = tasks.add.enqueue(1)
    page(login(), code=403)
    viewer = login("view_job")
    said = page(viewer)
    assert one.id in said
    assert "_selected_action" not in said
    act(viewer, "cancel", one.id, code=403)
    act(viewer, "delete", one.id, code=403)
    changer = login("view_job", "change_job")
    act(changer, "delete", one.id, code=403)
    act(changer, "cancel", one.id)
    act(login("view_job", "delete_job"), "delete", one.id)
    assert enqueued() == []
    assert Client().get(LIST).status_code == 302
