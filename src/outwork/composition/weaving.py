"""From steps to jobs: which of them wait for which (`Job.ties`), and what they take from them (`Job.feed`)."""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_origin

import msgspec
from msgspec.structs import replace

from outwork.errors import InvalidOption, NotSerializable, Unsupported
from outwork.feeding import takes_failures
from outwork.ids import new_job_id, numbered
from outwork.job import Feed, Job
from outwork.task import POSITIONAL, Application, Call, PartialCall, Step, Task
from outwork.ties import Ties

MOST_WAITING: Final = 1_000
"""Jobs that can wait for the end of one: their ids are all written into it."""
MOST_TIES: Final = 10_000
"""Ties between two steps, each of which is a group."""


class Beside(NamedTuple):
    """Lines that run beside each other; each ends with one job."""

    members: tuple[Line, ...]


Line: TypeAlias = tuple[Step | Beside, ...]
"""Steps that run one after the other."""


class Node:
    """One job to be. `level`: after how many others at least it comes; `extra`: it is a follower of another one."""

    __slots__ = ("awaits", "call", "extra", "feed", "id", "into", "level", "partial", "reports")

    def __init__(self, step: Step, level: int, job_id: str, *, extra: bool) -> None:
        if isinstance(step, Task):
            step = step.bind()
        self.partial = step if isinstance(step, PartialCall) else None
        self.call: Call[Any] = step.call if isinstance(step, PartialCall) else step
        self.into = self.partial.lacks if self.partial else ""
        if bytes(self.call.args) == b"{}" and not self.into:
            self.into = _first_parameter(self.call.task)
        self.level = level
        self.id = job_id
        self.extra = extra
        self.reports: list[str] = []
        self.awaits = 0
        self.feed: Feed | None = None

    def job(self) -> Job:
        """The job, with an id that the others know. Raises WrongArguments for an argument that nobody gives."""
        if self.partial is not None and self.feed is None:
            self.partial.refuse()
        job = self.call.job()
        ties = replace(job.ties or Ties(), awaits=self.awaits, reports=tuple(self.reports))
        return replace(job, id=self.id, ties=None if ties == Ties() else ties, feed=self.feed)


class Ends(NamedTuple):
    """The jobs with which a line begins and ends, and the level after it. `base`: its last step is a group, whose
    members are numbered from there."""

    heads: list[Node]
    last: list[Node]
    base: str
    level: int

    def feed(self, into: str, when: Literal["ended", "successful", "failed"]) -> Feed:
        """What says of a job that it comes after these."""
        if self.base:
            return Feed(base=self.base, total=len(self.last), into=into, gathers=True, when=when)
        return Feed(ids=(self.last[0].id,), into=into, when=when)


class Web:
    """The jobs of a line, and of what follows them, tied to each other.

    Raises WrongArguments, InvalidOption, NotSerializable, Unsupported.
    """

    def __init__(self, line: Line) -> None:
        self.nodes: list[Node] = []
        self._checked: set[tuple[str, str, str]] = set()
        self.ends = self._weave(line, 0, "", extra=False)
        self._check_all()

    @property
    def app(self) -> Application:
        """The one application of all."""
        return self.nodes[0].call.task.app

    @property
    def ids(self) -> list[str]:
        """The ids of its jobs, without those that follow on success or failure."""
        return [node.id for node in self.nodes if not node.extra]

    def _weave(self, line: Line, level: int, last_id: str, *, extra: bool) -> Ends:
        heads: list[Node] = []
        before: Ends | None = None
        for number, step in enumerate(line, 1):
            ends = self._step(step, level, last_id if number == len(line) else "", extra=extra)
            if before is None:
                heads = ends.heads
            else:
                self._tie(before, ends.heads)
            before, level = ends, ends.level
        assert before is not None, "a line has a step"
        return Ends(heads, before.last, before.base, level)

    def _step(self, step: Step | Beside, level: int, job_id: str, *, extra: bool) -> Ends:
        if isinstance(step, Beside):
            base = new_job_id()
            lines = [
                self._weave(member, level, numbered(base, number), extra=extra)
                for number, member in enumerate(step.members)
            ]
            heads = [node for one in lines for node in one.heads]
            return Ends(heads, [one.last[0] for one in lines], base, max((one.level for one in lines), default=level))
        node = Node(step, level, job_id or new_job_id(), extra=extra)
        self.nodes.append(node)
        ends = Ends([node], [node], "", level + 1)
        for when, following in node.call.task.options.followers:
            self._tie(ends, self._weave((following,), level + 1, "", extra=True).heads, when)
        return ends

    def _tie(self, before: Ends, heads: list[Node], when: Literal["ended", "successful", "failed"] = "ended") -> None:
        """Let these jobs come after those."""
        if not heads:
            raise InvalidOption(
                "an empty group cannot come after another step: nothing would tell what follows it when that has "
                "ended. Leave it out. Nothing was enqueued"
            )
        if len(heads) > MOST_WAITING or (len(heads) > 1 and len(heads) * len(before.last) > MOST_TIES):
            raise InvalidOption(
                f"a group of {len(heads):,} cannot come after {_jobs(len(before.last))}, each of which would have to "
                f"name all of them (at most {MOST_WAITING:,} after one job, {MOST_TIES:,} names in all). Between two "
                "groups put a task; let the step before a larger group enqueue it. Nothing was enqueued"
            )
        for head in heads:
            self._check(before, head, when)
            head.awaits += len(before.last)
            head.feed = before.feed(head.into, when)
        ids = [head.id for head in heads]
        for node in before.last:
            node.reports += ids

    # ---- what cannot be ---------------------------------------------------------------------------------------------

    def _check(self, before: Ends, head: Node, when: str) -> None:
        """Whether an argument can take what it is to be given, as far as that can be seen now."""
        task = head.call.task
        hint = task.hints.get(head.into, Any)
        if when == "failed":
            if not takes_failures(hint) and head.partial is None:
                head.into = ""
            elif hint is not Any and not takes_failures(hint):
                raise NotSerializable(
                    f"{task.name}: on_failure gives its argument {head.into} a MemberFailed. Annotate it so, or bind "
                    "all of its arguments. Nothing was enqueued"
                )
            return
        if not head.into:
            return
        for node in before.last:
            key = (task.name, head.into, node.call.task.name)
            if key in self._checked:
                continue
            self._checked.add(key)
            giver = node.call.task
            if giver.options.keep_result == 0:
                raise InvalidOption(
                    f"{task.name} takes what {giver.name} returns, which keep_result=0 throws away. Keep it for a "
                    f"while, or bind all arguments of {task.name}. Nothing was enqueued"
                )
            sample = b"[]" if before.base else _sample(giver.hints.get("return", Any))
            if sample is not None and _refused(hint, sample):
                what = "a list of what its members return" if before.base else f"what {giver.name} returns"
                raise NotSerializable(
                    f"{task.name}: its argument {head.into} would be {what}, which does not fit its hint. Bind it, or "
                    "change the hint. Nothing was enqueued"
                )
        if before.base and not before.last and _refused(hint, b"[]"):
            raise NotSerializable(f"{task.name}: its argument {head.into} takes no list. Nothing was enqueued")

    def _check_all(self) -> None:
        for task in {id(node.call.task): node.call.task for node in self.nodes}.values():
            if task.app is not self.app:
                raise Unsupported(
                    f"{self.nodes[0].call.task.name} and {task.name} belong to two applications: jobs that wait for "
                    "each other live in one broker. Nothing was enqueued"
                )
            if task.connection is not None:
                raise Unsupported(
                    f"{task.name}: jobs that wait for each other cannot be enqueued by a connection of the caller's "
                    "(connection=). Enqueue them after the commit. Nothing was enqueued"
                )
            if task.options.unique is not None:
                raise InvalidOption(
                    f"{task.name} is unique: another job may stand for it, of which those that wait for it know "
                    "nothing. Enqueue it by itself, or from a task. Nothing was enqueued"
                )


def _jobs(number: int) -> str:
    return "one job" if number == 1 else f"a group of {number:,}"


_SAMPLES: Final[dict[Any, bytes]] = {
    NoneType: b"null",
    bool: b"true",
    int: b"0",
    float: b"0.5",
    str: b'""',
    list: b"[]",
    dict: b"{}",
}


def _sample(hint: Any) -> bytes | None:
    """A JSON value of this hint, where it is a plain one."""
    return _SAMPLES.get(get_origin(hint) or hint)


def _refused(hint: Any, sample: bytes) -> bool:
    """Whether a value of this kind fits the hint in no case (that it is too small, or too short, does not count)."""
    try:
        msgspec.json.decode(sample, type=hint)
    except msgspec.ValidationError as error:
        return ", got `" in str(error)
    except Exception:  # noqa: BLE001 - a type of another library: it is asked when the job runs
        return False
    return False


def in_order(nodes: Sequence[Node]) -> list[Node]:
    """Those that wait before those that they wait for."""
    return sorted(nodes, key=lambda node: -node.level)


def _first_parameter(task: Task[..., Any]) -> str:
    """The name of the first positional parameter; "" where there is none."""
    first = next(iter(task.signature.parameters.values()), None)
    return first.name if first is not None and first.kind in POSITIONAL else ""
