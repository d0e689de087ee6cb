"""Make a server's resource what the application says that it is now.

Why the order of jobs does not matter, nor how many workers there are: an attempt carries no state, it reads it; and
when it has written, it reads again, and writes again if it is another one by now. Whoever writes last has read after
the last change, or finds out that it has not. Nothing of the server is needed for that, neither versions nor locks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pydantic import ValidationError

from outwork.contrib.provisioning.scim import MODELS, Conflict, Gone, Kind, Receiver
from outwork.errors import GiveUp, TryAgain

Read = Callable[[Kind, str], Any]
"""The resource as it is now, None if there is none (any more)."""

ROUNDS: Final = 10


def reconcile(receiver: Receiver, read: Read, kind: Kind, id: str) -> str:
    """What was done last: "created", "replaced", "deleted", or "absent" where there was nothing to delete.

    Raises TryAgain, GiveUp.
    """
    state = _state(read, kind, id)
    for _ in range(ROUNDS):
        try:
            done = _write(receiver, read, kind, id, state)
        except Gone:
            continue  # deleted by somebody else between two questions
        now = _state(read, kind, id)
        if done is not None and now == state:
            return done
        state = now
    raise TryAgain(f"the {kind} changes faster than {receiver.place} can be told")


def _state(read: Read, kind: Kind, id: str) -> dict[str, Any] | None:
    """What the application says, as SCIM writes it, whether it gave a model of scim2_models or a mapping."""
    given = read(kind, id)
    if given is None:
        return None
    try:
        body = dict(given) if isinstance(given, dict) else given.model_dump()
        body["externalId"] = id
        for ours in ("id", "meta"):
            body.pop(ours, None)
        state: dict[str, Any] = MODELS[kind].model_validate(body).model_dump()
    except ValidationError as error:  # its own text shows the values, which belong in no log
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise GiveUp(f"what the application gave for the {kind} is no SCIM resource: {wrong}") from None
    except (AttributeError, TypeError) as error:
        raise GiveUp(f"what the application gave for the {kind} is no SCIM resource: {error}") from error
    return state


def _write(receiver: Receiver, read: Read, kind: Kind, id: str, state: dict[str, Any] | None) -> str | None:
    """One round; None if the next one has to look again."""
    found = receiver.find(kind, id)
    if state is None:
        for remote in found:
            receiver.delete(kind, remote)
        return "deleted" if found else "absent"
    body = _with_members(receiver, read, state) if kind == "group" else state
    try:
        if found:
            for double in found[1:]:  # two workers have created it at one moment
                receiver.delete(kind, double)
            receiver.replace(MODELS[kind].model_validate({**body, "id": found[0]}))
            return "replaced"
        receiver.create(MODELS[kind].model_validate(body))
        return None if len(receiver.find(kind, id)) > 1 else "created"
    except Conflict as error:
        if not found and receiver.find(kind, id):
            return None
        stranger = receiver.find_stranger(state["userName"]) if kind == "user" and not found else None
        if stranger is None:
            # A name may be another resource's whose own job is still to come: a rename, or a delete.
            raise TryAgain(str(error)) from None
        receiver.replace(MODELS[kind].model_validate({**body, "id": stranger}))
        return "replaced"


def _with_members(receiver: Receiver, read: Read, state: dict[str, Any]) -> dict[str, Any]:
    """A group whose members are named as the server names them. Users that it does not know yet are told to it; members
    that the application does not know (any more) are left out."""
    members: list[dict[str, Any]] = state.get("members") or []
    told: list[dict[str, Any]] = []
    for kind in MODELS:
        ours = [member for member in members if str(member.get("type") or "User").lower() == kind]
        found = receiver.find_all(kind, [member["value"] for member in ours])
        for member in ours:
            id = member["value"]
            if id not in found and read(kind, id) is not None:
                if kind == "group":
                    raise TryAgain(f"{receiver.place} does not know yet a group that is a member of this one")
                reconcile(receiver, read, kind, id)
                found |= receiver.find_all(kind, [id])
            if id in found:
                told.append({**member, "value": found[id], "$ref": None})
    return {**state, "members": [{key: value for key, value in one.items() if value is not None} for one in told]}
