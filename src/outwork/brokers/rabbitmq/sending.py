"""Sending letters until the fate of each is known: over a new connection if need be, and telling what RabbitMQ has not
taken from what it perhaps has."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic, sleep
from typing import Final, NamedTuple

from outwork.brokers.rabbitmq.frames import Parcel
from outwork.brokers.rabbitmq.link import Link
from outwork.brokers.rabbitmq.options import Options
from outwork.brokers.rabbitmq.publisher import Batch, Publisher, Rejected, Unroutable, Unsendable, Unsent
from outwork.brokers.rabbitmq.talk import explained
from outwork.errors import BrokerFull, BrokerUnavailable, EnqueueError, OutworkError

PAUSE: Final = 0.1
STARTING: Final = 2.0
"""Seconds for which a queue that rejects is asked again: a quorum queue that another process has just declared does so
until it has a leader. What is rejected is not stored (by a classic queue that died: perhaps)."""
MOST_LOSSES: Final = 5
CLASSIC: Final = "A classic queue that died may have it on its disk; to be delivered at most once, it is not sent again"


class Letter(NamedTuple):
    """A message on its way to a queue; `levels` where it is to wait before."""

    parcel: Parcel
    target: str
    levels: tuple[int, ...] = ()
    once: bool = False


class Sent(NamedTuple):
    """What became of letters, by their index; the others are confirmed (with `confirm=false`: sent). `refused` are not
    stored. `unsure` may be or not: they were on their way when the connection was lost, or nothing was heard of them in
    time."""

    refused: dict[int, OutworkError]
    unsure: dict[int, OutworkError]

    def refusals(self) -> dict[int, EnqueueError]:
        """What RabbitMQ refused. Raises for what it has perhaps, and for what could not be sent."""
        for error in self.unsure.values():
            raise error
        refused: dict[int, EnqueueError] = {}
        for index, error in self.refused.items():
            if not isinstance(error, EnqueueError):
                raise error
            refused[index] = error
        return refused


class Sending:
    """One call of `Post.send`."""

    def __init__(self, options: Options, link: Link, letters: Sequence[Letter], *, resend: bool) -> None:
        self._options = options
        self._link = link
        self._letters = letters
        self._resend = resend
        self._sent = Sent({}, {})
        self._waiting = list(range(len(letters)))
        self._doubtful: set[int] = set()
        """What was on its way once, and is sent anew."""
        self._began = monotonic()
        self._deadline = self._began + options.put_timeout
        self._losses = 0
        self._redeclared = False

    def carry_out(self) -> Sent:
        """Round after round, until nothing waits."""
        fresh = self._link.open_publisher is None
        published = False
        while self._waiting:
            try:
                publisher = self._ready()
            except OutworkError as error:
                if isinstance(error, BrokerUnavailable) and (not fresh or self._waits_for_server()):
                    fresh = True  # if it was not, it was dead already: nothing was sent
                    continue
                if not published:
                    raise
                for index in self._waiting:
                    self._give_up(index, error)
                break
            fresh = published = True
            batch = publisher.publish([self._letters[index].parcel for index in self._waiting])
            if not self._options.confirm:
                break
            self._waiting = self._sort(self._problems(publisher, batch))
        return self._sent

    def _waits_for_server(self) -> bool:
        """Whether there is time to try again after a loss; after a pause."""
        if not self._losses or monotonic() > self._deadline - self._options.put_timeout / 2:
            return False
        sleep(PAUSE)
        return True

    def _ready(self) -> Publisher:
        """The publisher, with all declared, and not blocked."""
        publisher = self._link.publisher()
        declare(self._link, self._letters)
        while publisher.blocked and monotonic() < self._deadline:
            sleep(PAUSE)
        if publisher.blocked:
            raise self._blocked(publisher, "Nothing was enqueued")
        return self._link.publisher()

    def _problems(self, publisher: Publisher, batch: Batch) -> dict[int, Exception]:
        """Wait for the confirms: what went wrong, by the index in the batch; one of our errors where nothing is known
        in time."""
        if not batch.parcels or batch.wait(max(0.1, self._deadline - monotonic())):
            return batch.errors
        late: OutworkError
        if publisher.blocked:
            late = self._blocked(publisher, "What was sent may be enqueued when it goes on")
        else:
            publisher.loop.call(publisher.connection.close)
            late = BrokerUnavailable(
                f"{self._options.shown} did not confirm within {self._options.put_timeout:g} s. The job may or may not "
                "be enqueued: enqueue it again with the same id"
            )
        return dict.fromkeys(batch.unknown(), late) | batch.errors

    def _sort(self, problems: dict[int, Exception]) -> list[int]:
        """Take account of a round: what is sent again."""
        again: list[int] = []
        once_more = self._resend and self._losses < MOST_LOSSES
        redeclare = not self._redeclared
        starting = monotonic() < min(self._began + STARTING, self._deadline)
        for place, problem in problems.items():
            index = self._waiting[place]
            letter = self._letters[index]
            match problem:
                case Unroutable() if redeclare:
                    self._redeclared = True
                    self._link.forget(letter.target)
                    again.append(index)
                case Rejected() if letter.once and self._options.queue_type == "classic":
                    self._sent.unsure[index] = self._refusal(letter, problem, CLASSIC)
                case Rejected() if starting:
                    again.append(index)
                case Unroutable() | Rejected() | Unsendable():
                    self._give_up(index, self._refusal(letter, problem))
                case Unsent() if once_more:
                    again.append(index)
                case Unsent(reason=reason):
                    self._give_up(index, explained(reason, self._options, "publishing"))
                case OutworkError():
                    self._sent.unsure[index] = problem
                case _ if once_more and not letter.once:
                    self._doubtful.add(index)
                    again.append(index)
                case _:
                    self._sent.unsure[index] = explained(problem, self._options, "publishing")
        kinds = {type(problem) for problem in problems.values()}
        self._losses += bool(kinds - {Unroutable, Rejected, Unsendable})
        if again and kinds & {Rejected, Unsent}:
            sleep(PAUSE)
        return again

    def _give_up(self, index: int, error: OutworkError) -> None:
        """It is not sent again: refused, unless an earlier round may have stored it."""
        if index not in self._doubtful:
            self._sent.refused[index] = error
            return
        text = f"{self._options.shown}: an enqueue was not confirmed, and could not be repeated; the job may be there"
        unsure = self._sent.unsure[index] = BrokerUnavailable(text)
        unsure.__cause__ = error

    def _blocked(self, publisher: Publisher, consequence: str) -> BrokerFull:
        return BrokerFull(
            f"{self._options.shown} takes no messages at the moment ({publisher.blocked}), for "
            f"{self._options.put_timeout:g} s already. {consequence}. Look at:  rabbitmq-diagnostics alarms"
        )

    def _refusal(self, letter: Letter, problem: Exception, consequence: str = "Nothing was enqueued") -> EnqueueError:
        kind = BrokerFull if isinstance(problem, Rejected) else EnqueueError
        return kind(f"{self._options.shown}: {letter.target}: {problem}. {consequence}")


def declare(link: Link, letters: Sequence[Letter]) -> None:
    """See to it that the queues of these letters and the ways to them are there."""
    topology = link.topology
    missing = {letter.target for letter in letters if not link.is_declared(letter.target)}
    if missing:
        jobs = [name for name in missing if name != topology.dead and not topology.is_parked(name)]
        link.declare([topology.dead_letters(), *map(topology.queue, jobs)])
    for target, levels in {(letter.target, letter.levels) for letter in letters if letter.levels}:
        link.declare_way(target, list(levels))
