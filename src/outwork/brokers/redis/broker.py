"""The broker on Redis and Valkey. Each verb packs its arguments, runs one script, and unpacks the reply.

The moves of a job are in `lua/`, stated once more because they must happen on the server; the state machine of
`outwork.job` is what they are compared with (`tests/model`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, Self

import msgspec
from msgspec.structs import replace

from outwork.errors import BrokerUnavailable, EnqueueError, MissingDriver

try:
    import redis  # noqa: F401
except ImportError as error:
    raise MissingDriver(
        "redis:// needs the driver redis-py, which is not installed. Install it: pip install 'outwork[redis]'"
    ) from error

from outwork.brokers.base import (
    Accepted,
    Broker,
    Capabilities,
    Claim,
    Claimed,
    Count,
    Exchanged,
    Extended,
    Filter,
    Page,
    Presence,
    Settlement,
    Share,
    Store,
    Tended,
)
from outwork.brokers.redis import records
from outwork.brokers.redis.connections import Argument
from outwork.brokers.redis.flow import RedisFlow, in_chunks
from outwork.brokers.redis.options import DEFAULT_TERMS, Options, read_options
from outwork.brokers.redis.outbox import CHUNK, RedisOutbox
from outwork.brokers.redis.server import Server
from outwork.brokers.redis.waiting import Announcements, Doorbell
from outwork.job import Answer, Job, Record, State, Terms

TEND_ROUNDS: Final = 10
"""Scripts in one tend at most, so that even 100,000 jobs a second are pruned as they come."""
TEND_BATCH: Final = 500
PRUNE_BATCH: Final = 1000
LOOK_AT: Final = 2000
"""Records that one script looks at when it searches: about 2 ms."""

ANSWERS: Final = {68: Answer.DONE, 65: Answer.ALREADY, 83: Answer.STALE}
_encode_presence = msgspec.json.Encoder().encode
_decode_presence = msgspec.json.Decoder(Presence).decode


class _Process:
    """What belongs to one process: a child of a fork must not use its parent's connections."""

    def __init__(self, options: Options) -> None:
        self.server = Server(options)
        self.doorbell = Doorbell(self.server)
        self.announcements = Announcements(self.server)


class RedisBroker(RedisFlow, RedisOutbox, Broker, Store):
    """A broker that is its own store, on one server, behind Sentinel, or on one node of a Cluster."""

    default_terms = DEFAULT_TERMS
    # An append-only file is written once a second by default: what was accepted in the last one may be lost.
    capabilities = Capabilities(server_crash=False)
    exchanges_afar = 4

    def __init__(self, options: Options) -> None:
        self.url = options.url
        self.terms = options.terms
        self.runs_in = options.runs_in
        self.embedding = options.embedding
        self._options = options
        self._processes: dict[int, _Process] = {}
        self._closed = False

    @classmethod
    def from_url(cls, url: str, terms: Terms | None = None) -> Self:
        return cls(read_options(url, terms))

    # ---- enqueue ----------------------------------------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[Job]) -> list[Accepted]:
        if any(job.ties is not None for job in jobs):
            return self._enqueue_bound(jobs)
        answers: list[Accepted] = [None] * len(jobs)
        packed: list[tuple[str | bytes, ...]] = []
        for index, job in enumerate(jobs):
            try:
                packed.append(records.enqueue_arguments(job))
            except EnqueueError as error:
                answers[index] = error
        for chunk in in_chunks(packed):
            self._run_durably("enqueue", *chunk)
        return answers

    # ---- exchange ---------------------------------------------------------------------------------------------------

    def exchange(
        self,
        claim_id: str,
        outcomes: Sequence[Settlement],
        queues: Sequence[Share],
        limit: int,
        free: int,
        worker: str,
    ) -> Exchanged:
        run = self._server().run
        terms = self.terms
        answers = b""
        let_go = 0
        # A thousand outcomes and more, 32 MB of them, or a job named twice: several scripts, of which the last claims.
        packed = [records.settle_arguments(outcome) for outcome in outcomes]
        *early, last = _apart(packed) or [[]]
        rest = (terms.lease, terms.keep, terms.keep_failed)
        for chunk in early:
            settled, _, freed, *_ = run("exchange", self.clock_offset, claim_id, worker, 0, 0, *rest, 0, *chunk)
            answers += settled
            let_go += freed
        shares: list[Argument] = [part for share in queues for part in share]
        settled, due, freed, *handed = run(
            "exchange", self.clock_offset, claim_id, worker, limit, free, *rest, len(queues), *shares, *last
        )
        return Exchanged(
            [ANSWERS[letter] for letter in answers + settled],
            self._handed(claim_id, handed),
            max(0.0, float(due)) if due else None,
            let_go + freed > 0,
        )

    def _handed(self, claim_id: str, reply: Sequence[Any]) -> list[Claimed]:
        """What `lua/handing.lua` says is claimed."""
        ids, bodies, history, errors = reply
        claimed = [Claimed(job_id.decode(), claim_id, body) for job_id, body in zip(ids, bodies, strict=True)]
        for index, record, lines in zip(history[::2], history[1::2], errors, strict=True):
            failures, crashes, misses = records.counters(record)
            claimed[index] = claimed[index]._replace(
                failures=failures, crashes=crashes, misses=misses, errors=records.decode_failures(lines)
            )
        return claimed

    # ---- leases and housekeeping ------------------------------------------------------------------------------------

    def extend(self, claims: Sequence[Claim]) -> Extended:
        lost: set[str] = set()
        cancel: set[str] = set()
        for start in range(0, len(claims), CHUNK):
            pairs = [part for claim in claims[start : start + CHUNK] for part in claim]
            gone, asked = self._run("extend", self.terms.lease, *pairs)
            lost.update(job_id.decode() for job_id in gone)
            cancel.update(job_id.decode() for job_id in asked)
        return Extended(frozenset(lost), frozenset(cancel))

    def tend(self, presence: Presence | None, *, rescue: bool, dead: Collection[str] = ()) -> Tended:
        here: tuple[Argument, ...] = ("", 0, b"")
        if presence is not None:
            here = (presence.worker, presence.ttl, _encode_presence(presence))
        sums = [0, 0, 0, 0]
        more = True
        rounds = 0
        while more and rounds < TEND_ROUNDS:
            *did, again = self._run(
                "tend", self.terms.keep_failed, int(rescue), TEND_BATCH, PRUNE_BATCH, *here, *sorted(dead)
            )
            sums = [total + number for total, number in zip(sums, did, strict=True)]
            more = bool(again)
            rounds += 1
        return Tended(rescued=sums[0], buried=sums[1], expired=sums[2], pruned=sums[3], more=more)

    def leave(self, worker: str) -> None:
        self._run("leave", worker)

    def workers(self) -> list[Presence]:
        found = [packed for packed in self._run("workers") if packed is not None]
        return [replace(_decode_presence(packed[8:]), seen_at=records.moment(packed)) for packed in found]

    # ---- waiting ----------------------------------------------------------------------------------------------------

    def wait(self, queues: Sequence[str], timeout: float) -> bool:
        return not self._closed and self._here().doorbell.wait(self.clock_offset, queues, timeout)

    def interrupt(self) -> None:
        self._here().doorbell.alarm.ring()

    def wait_result(self, ids: Collection[str], timeout: float) -> set[str]:
        return set() if self._closed else self._here().announcements.wait(self.clock_offset, ids, timeout)

    def interrupt_wait_result(self) -> None:
        self._here().announcements.alarm.ring()

    # ---- the store --------------------------------------------------------------------------------------------------

    def queues(self) -> list[str]:
        return sorted({count.queue for count in self.counts()})

    def now(self) -> float:
        seconds, microseconds = self._server().ask("TIME")
        return int(seconds) + int(microseconds) / 1e6 + self.clock_offset

    def get(self, ids: Sequence[str]) -> list[Record | None]:
        found: list[Record | None] = []
        for start in range(0, len(ids), CHUNK):
            chunk = ids[start : start + CHUNK]
            now, bound, packed, *rest = self._look_up("get", *chunk)
            moment = float(now)
            known = {
                place: records.decode_record(job_id, record, body, errors, result, moment)
                for place, (job_id, record, body, errors, result) in enumerate(zip(chunk, packed, *rest, strict=True))
                if record is not None
            }
            for place, ties, knot in zip(bound[::3], bound[1::3], bound[2::3], strict=True):
                known[place] = records.bound(known[place], ties, knot)
            found += map(known.get, range(len(chunk)))
        return found

    def find(self, which: Filter, limit: int = 50, cursor: str | None = None) -> Page:
        if which.ids is not None:
            return self._find_named(which, limit, cursor)
        wanted = _filter(which)
        place: str | bytes = "+" if cursor is None else f"({cursor}"
        ids: list[str] = []
        while place and len(ids) <= limit:
            place, more = self._look_up("find", place, limit + 1 - len(ids), LOOK_AT, *wanted)
            ids += [job_id.decode() for job_id in more]
        kept = [record for record in self.get(ids[:limit]) if record is not None]  # one may have gone since
        return Page(kept, ids[limit - 1] if len(ids) > limit else None)

    def _find_named(self, which: Filter, limit: int, cursor: str | None) -> Page:
        named = sorted({i for i in which.ids or () if cursor is None or i < cursor}, reverse=True)
        fitting = [record for record in self.get(named) if record is not None and _fits(record, which)]
        return Page(fitting[:limit], fitting[limit - 1].id if len(fitting) > limit else None)

    def counts(self) -> list[Count]:
        more, reply = self._look_up("counts", CHUNK)
        while more:
            more, reply = self._look_up("counts", CHUNK)
        tally: Counter[tuple[str, str, State]] = Counter()
        for name, number in zip(reply[::2], reply[1::2], strict=True):
            queue, _, task = name[1:].decode().partition("\0")
            tally[queue, task, records.STATES[name[:1]]] += int(number)
        return [Count(queue, task, state, jobs) for (queue, task, state), jobs in sorted(tally.items()) if jobs > 0]

    def cancel(self, ids: Sequence[str]) -> list[State | None]:
        return self._steer("cancel", ids)

    def retry(self, ids: Sequence[str]) -> list[State | None]:
        return self._steer("retry", ids)

    def delete(self, ids: Sequence[str]) -> list[State | None]:
        return self._steer("delete", ids)

    def prune(
        self, which: Filter, *, older_than: float, failed_older_than: float, limit: int = 1000, dry_run: bool = False
    ) -> int:
        old: dict[str, None] = {}
        for ids in self._old(which, older_than, failed_older_than):
            old.update(dict.fromkeys(ids))
            if not dry_run and len(old) >= limit:
                break
        if dry_run:
            return len(old)
        return sum(state is not None and state.finished for state in self._steer("prune", list(old)[:limit]))

    # ---- life -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        self._closed = True
        here = self._processes.get(os.getpid())
        if here is not None:
            here.doorbell.alarm.close()
            here.announcements.close()
            here.server.close()

    # ---- within -----------------------------------------------------------------------------------------------------

    def _here(self) -> _Process:
        pid = os.getpid()
        here = self._processes.get(pid)
        if here is None:
            here = self._processes.setdefault(pid, _Process(self._options))
            for parent in [other for other in self._processes if other != pid]:
                self._processes.pop(parent, None)  # its sockets are closed here without a word to the server
        return here

    def _server(self) -> Server:
        if self._closed:
            raise BrokerUnavailable(f"{self.url} was closed in this process")
        server = self._here().server
        self._keep(server)
        return server

    def _run(self, name: str, *arguments: Argument) -> Any:
        return self._server().run(name, self.clock_offset, *arguments)

    def _look_up(self, name: str, *arguments: Argument) -> Any:
        """As `_run`, after what is held until now was let go."""
        while (reply := self._run(name, *arguments)) == b"attend":
            self._run("attend")
        return reply

    def _run_durably(self, name: str, *arguments: Argument) -> Any:
        """As `_run`; where the URL asks for it, replicas have it afterwards, too."""
        server = self._server()
        run = server.run_replicated if self._options.wait_replicas else server.run
        return run(name, self.clock_offset, *arguments)

    def _steer(self, verb: str, ids: Sequence[str]) -> list[State | None]:
        states: list[State | None] = []
        for start in range(0, len(ids), CHUNK):
            letters = self._run("steer", verb, self.terms.keep_failed, *ids[start : start + CHUNK])
            states += [records.STATES.get(letters[k : k + 1]) for k in range(len(letters))]
        return states

    def _old(self, which: Filter, older_than: float, failed_older_than: float) -> Iterator[list[str]]:
        """The ids of jobs that fit and ended so long ago, in batches."""
        if which.ids is not None:
            now = self.now()
            yield [
                record.id
                for record in self.get(sorted(set(which.ids)))
                if record is not None
                and record.finished_at is not None
                and record.finished_at <= now - (older_than if record.state is State.SUCCESSFUL else failed_older_than)
                and _fits(record, which)
            ]
            return
        rank = 0
        while rank >= 0:
            rank, found = self._run("old", rank, LOOK_AT, *_filter(which), older_than, failed_older_than)
            yield [job_id.decode() for job_id in found]


def _apart(packed: Sequence[tuple[str | bytes, ...]]) -> list[list[str | bytes]]:
    """The settlements in chunks none of which names a job twice: the script looks at each record once."""
    if len({arguments[0] for arguments in packed}) == len(packed):
        return in_chunks(packed)
    return [list(arguments) for arguments in packed]


def _filter(which: Filter) -> tuple[str, str, str, str]:
    """A filter as `lua/fitting.lua` takes it."""
    return (
        "*" if which.states is None else "".join(records.LETTERS[state] for state in which.states),
        "" if which.queue is None else f"={which.queue}",
        "" if which.task is None else f"={which.task}",
        "" if which.attempted is None else str(int(which.attempted)),
    )


def _fits(record: Record, which: Filter) -> bool:
    return (
        (which.states is None or record.state in which.states)
        and (which.queue is None or record.queue == which.queue)
        and (which.task is None or record.task == which.task)
        and (which.attempted is None or which.attempted == (record.failures + record.crashes > 0))
    )
