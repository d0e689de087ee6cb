"""The jobs in Django's admin: a list with filters, a page for each job, and actions. Through the store's verbs, so that
a list of a million jobs costs one page of them and no count."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from outwork import codec
from outwork.brokers.base import Filter
from outwork.contrib.django.compat import InvalidTaskBackend, task_backends
from outwork.contrib.django.models import Job
from outwork.contrib.django.results import moment
from outwork.errors import OutworkError, Undecodable
from outwork.job import Record, State

PAGE: Final = 100
ACTIONS: Final = {
    "retry": ("change", "Run again (failed or cancelled)"),
    "hasten": ("change", "Run now (scheduled)"),
    "cancel": ("change", "Cancel (ask running ones to stop)"),
    "delete": ("delete", "Delete (running ones stay)"),
}
"""What can be done with the chosen jobs, and the permission for it."""


@admin.register(Job)
class JobAdmin(admin.ModelAdmin):  # type: ignore[type-arg,unused-ignore]
    """Nothing is edited by hand: a job is what was asked for."""

    def has_add_permission(self, request: Any) -> bool:
        return False

    # ---- the list ---------------------------------------------------------------------------------------------------

    def changelist_view(self, request: Any, extra_context: dict[str, Any] | None = None) -> Any:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            return self._act(request)
        given = {name: request.GET.get(name, "") for name in ("backend", "state", "queue", "task", "after")}
        context: dict[str, Any] = {"given": given, "states": [state.value for state in State]}
        aliases = backends()
        alias = given["backend"] if given["backend"] in aliases else next(iter(aliases), "")
        try:
            page = aliases[alias].store.find(_filter(given), PAGE, given["after"] or None) if alias else None
        except OutworkError as error:
            page = None
            context["problem"] = str(error)
        following = {**given, "after": page.cursor} if page is not None and page.cursor else None
        context |= {
            **self.admin_site.each_context(request),
            "title": self.opts.verbose_name_plural.capitalize(),
            "opts": self.opts,
            "backends": list(aliases),
            "alias": alias,
            "rows": [self._row(record, alias) for record in (page.records if page is not None else ())],
            "next": urlencode(following) if following else "",
            "first": urlencode({**given, "after": ""}) if given["after"] else "",
            "choices": self._choices(request, aliases.get(alias)),
            **(extra_context or {}),
        }
        return self._rendered(request, "jobs", context)

    def _rendered(self, request: Any, name: str, context: dict[str, Any]) -> Any:
        request.current_app = self.admin_site.name
        return TemplateResponse(request, f"admin/outwork/job/{name}.html", context)

    def _url(self, name: str, *args: str) -> str:
        return reverse(f"admin:outwork_job_{name}", args=args, current_app=self.admin_site.name)

    def _choices(self, request: Any, backend: Any) -> list[tuple[str, str]]:
        """The actions that this user may take on this backend."""
        may = {"change": self.has_change_permission(request), "delete": self.has_delete_permission(request)}
        return [
            (name, words)
            for name, (needed, words) in ACTIONS.items()
            if may[needed] and (name != "hasten" or hasattr(getattr(backend, "store", None), "hasten"))
        ]

    def _row(self, record: Record, alias: str) -> dict[str, Any]:
        return {
            "record": record,
            "url": f"{self._url('change', record.id)}?{urlencode({'backend': alias})}",
            "enqueued": moment(record.enqueued_at),
            "finished": moment(record.finished_at),
        }

    # ---- one job ----------------------------------------------------------------------------------------------------

    def change_view(
        self,
        request: Any,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            return self._act(request)
        alias, record = self._find(request, object_id)
        context = {
            **self.admin_site.each_context(request),
            "title": record.task,
            "subtitle": record.id,
            "opts": self.opts,
            "alias": alias,
            "record": record,
            "facts": _facts(record),
            "arguments": _arguments(record),
            "result": None if record.result is None else _pretty(record.result),
            "failures": [{"failure": one, "at": moment(one.at)} for one in record.errors],
            "choices": self._choices(request, backends()[alias]),
            **(extra_context or {}),
        }
        return self._rendered(request, "job", context)

    def _find(self, request: Any, job_id: str) -> tuple[str, Record]:
        aliases = backends()
        asked = request.GET.get("backend")
        for alias in [asked] if asked in aliases else list(aliases):
            [record] = aliases[alias].store.get([job_id])
            if record is not None:
                return alias, record
        raise Http404(f"no job {job_id}: it was pruned, or never enqueued")

    def delete_view(self, request: Any, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        return HttpResponseRedirect(self._url("change", object_id))

    def history_view(self, request: Any, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        return HttpResponseRedirect(self._url("change", object_id))

    # ---- actions ----------------------------------------------------------------------------------------------------

    def _act(self, request: Any) -> Any:
        """Do what was chosen with the jobs that were ticked."""
        backend = backends().get(request.POST.get("backend", ""))
        name = request.POST.get("action", "")
        if backend is None or name not in dict(self._choices(request, backend)):
            raise PermissionDenied
        ids = request.POST.getlist("_selected_action")[:1000]
        try:
            done = _do(backend.store, name, ids)
        except OutworkError as error:
            self.message_user(request, str(error), messages.ERROR)
        else:
            said = f"{done} job{'' if done == 1 else 's'}: {ACTIONS[name][1]}"
            level = messages.SUCCESS if done == len(ids) else messages.WARNING
            self.message_user(request, said, level)
        return HttpResponseRedirect(f"{self._url('changelist')}?{request.POST.get('back', '')}")


def backends() -> dict[str, Any]:
    """Our backends that other processes share, by their aliases."""
    from outwork.contrib.django.backends import OutworkBackend

    found: dict[str, Any] = {}
    for alias in task_backends:
        try:
            backend = task_backends[alias]
        except InvalidTaskBackend:  # the system checks and whoever enqueues say so
            continue
        if isinstance(backend, OutworkBackend) and backend.supports_get_result:
            found[alias] = backend
    return found


def _do(store: Any, name: str, ids: Sequence[str]) -> int:
    """How many of the jobs it was done with."""
    if name == "hasten":
        return int(store.hasten(ids))
    before = store.get(ids)
    fitting = {
        "retry": {State.FAILED, State.CANCELLED},
        "cancel": {State.SCHEDULED, State.READY, State.RUNNING},
        "delete": set(State) - {State.RUNNING},
    }[name]
    chosen = [record.id for record in before if record is not None and record.state in fitting]
    if chosen:
        getattr(store, name)(chosen)
    return len(chosen)


def _filter(given: dict[str, str]) -> Filter:
    state = given["state"]
    states = (State(state),) if state in State.__members__ else None
    return Filter(states=states, queue=given["queue"] or None, task=given["task"] or None)


def _facts(record: Record) -> list[tuple[str, Any]]:
    facts = [
        ("State", record.state.value + (" (asked to stop)" if record.cancel_requested else "")),
        ("Queue", record.queue),
        ("Priority", record.priority),
        ("Attempts", f"{record.attempts} ({record.failures} failed, {record.crashes} crashed)"),
        ("Enqueued", moment(record.enqueued_at)),
        ("Due", moment(record.due)),
        ("Started", moment(record.started_at)),
        ("Finished", moment(record.finished_at)),
        ("Kept until", moment(record.prune_at)),
        ("Expires", moment(record.expires_at)),
        ("Worker", record.worker),
    ]
    return [(name, value) for name, value in facts if value is not None]


def _arguments(record: Record) -> str:
    try:
        return _pretty(bytes(codec.decode_job(record.body).args))
    except Undecodable:
        return record.body.decode(errors="backslashreplace")


def _pretty(body: bytes) -> str:
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except ValueError:
        return body.decode(errors="backslashreplace")
