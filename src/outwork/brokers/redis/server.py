"""The server as one process of ours sees it: scripts are run on it, and what passes is tried again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import redis
from redis.exceptions import NoScriptError

from outwork.brokers.redis.connections import Argument, Command, Connections, Wire
from outwork.brokers.redis.faults import PASSING, Fault, explain
from outwork.brokers.redis.options import Options
from outwork.brokers.redis.scripts import KEYS, ORDERED, script

logger = logging.getLogger("outwork")

PATIENCE: Final = 1.0
"""Seconds for which what soon passes (a broken connection, a slot on the move) is tried again."""
PAUSE: Final = 0.03
OLDEST: Final = (6, 2)

Work: TypeAlias = Callable[[Wire], Any]


class Server:
    """Runs scripts. Every script may be repeated, so a lost reply is no reason to give up."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.connections = Connections(options)
        self._tag = f"{{{options.namespace}}}:"
        self._calls: dict[str, Command] = {}
        self._checking = threading.Lock()
        self._checked = -1
        self._warned = False

    def name(self, key: str) -> str:
        """A key's, or channel's, full name."""
        return self._tag + key

    def run(self, name: str, *arguments: Argument) -> Any:
        """The reply of a script. Raises BrokerUnavailable, BrokerFull, BrokerRefused."""
        return self.attempt(lambda wire: self._evaluate(wire, name, arguments))

    def run_replicated(self, name: str, *arguments: Argument) -> Any:
        """The same, and as many replicas as the URL asks for have it, too."""
        return self.attempt(lambda wire: self._evaluate(wire, name, arguments, self.options.wait_replicas))

    def ask(self, *command: Argument) -> Any:
        """The reply to a plain command."""

        def send(wire: Wire) -> Any:
            wire.send(command)
            return wire.reply()

        return self.attempt(send)

    def attempt(self, work: Work, *, give: bool = True) -> Any:
        """Do `work` on a connection, again if what failed is likely to pass at once. `give` it back afterwards."""
        until = 0.0
        while True:
            try:
                return self._once(work, give)
            except Fault as fault:
                now = time.monotonic()
                until = until or now + PATIENCE
                if fault.word not in PASSING or now + PAUSE > until:
                    raise fault.as_error() from fault
            time.sleep(PAUSE)

    def take(self) -> Wire:
        """A connection to a server that was looked at, for the caller to give back or close. Tries once."""
        try:
            return self._take()
        except Fault as fault:
            raise fault.as_error() from fault

    def _take(self) -> Wire:
        wire = self.connections.take()
        if self._checked != wire.era:
            try:
                with self._checking:
                    if self._checked != wire.era:
                        self._check(wire)
                        self._checked = wire.era
            except BaseException as error:
                wire.close()
                self.connections.lost(wire.era)
                if isinstance(error, redis.RedisError | OSError):
                    raise self.fault(error, wire) from error
                raise
        return wire

    def claim(self, work: Work) -> Wire:
        """A connection on which `work` was done, for the caller to keep."""
        kept: list[Wire] = []

        def keep(wire: Wire) -> None:
            work(wire)
            kept.append(wire)

        self.attempt(keep, give=False)
        return kept[0]

    def fault(self, error: Exception, wire: Wire) -> Fault:
        """What this error of the driver means; a connection of an era that ended with it is not used again."""
        fault = explain(error, self.connections.place, self.options, connecting=False)
        if fault.word not in ("TRYAGAIN", "ASK", "BUSY", "OOM", "NOREPLICAS", "NOPERM", "WRONGTYPE"):
            self.connections.lost(wire.era, fault.place if self.options.layout == "cluster" else None)
        return fault

    def close(self) -> None:
        self.connections.close()

    # ---- within -----------------------------------------------------------------------------------------------------

    def _once(self, work: Work, give: bool) -> Any:
        wire = self._take()
        try:
            reply = work(wire)
        except redis.ResponseError as error:
            self.connections.give(wire)
            raise self.fault(error, wire) from error
        except (redis.RedisError, OSError) as error:
            wire.close()
            raise self.fault(error, wire) from error
        except BaseException:
            wire.close()
            raise
        if give:
            self.connections.give(wire)
        return reply

    def _evaluate(self, wire: Wire, name: str, arguments: Command, replicas: int = 0) -> Any:
        call = self._calls.get(name) or self._calls.setdefault(name, self._call(name))
        command = call + arguments
        try:
            return self._send(wire, command, replicas)
        except NoScriptError:
            # After a restart or SCRIPT FLUSH. EVAL loads the script as it runs it, so no further right is needed.
            return self._send(wire, ("EVAL", script(name).source, *command[2:]), replicas)

    def _send(self, wire: Wire, command: Command, replicas: int) -> Any:
        if not replicas:
            wire.send(command)
            return wire.reply()
        wire.send(command, ("WAIT", replicas, max(1, int(self.options.timeout * 800))))
        try:
            reply = wire.reply()
        except redis.ResponseError:
            wire.reply()
            raise
        reached = wire.reply()
        if reached < replicas:
            raise Fault(
                "REPLICAS",
                f"{self.options.url}: {reached} of {replicas} replicas have acknowledged the jobs, which may not "
                "survive a failover. Enqueue them again with the same ids",
            )
        return reply

    def _call(self, name: str) -> Command:
        found = script(name)
        keys = [*map(self.name, found.keys), self._tag]
        return ("EVALSHA", found.digest, len(keys), *keys)

    # ---- what the server must be ------------------------------------------------------------------------------------

    def _check(self, wire: Wire) -> None:
        """At the first connection, and again after each loss of it."""
        wire.send(("INFO",))
        lines = (line.partition(":") for line in wire.reply().decode("utf-8", "replace").splitlines())
        info = {name: value.strip() for name, _, value in lines}
        url, place = self.options.url, self.connections.place
        version = info.get("valkey_version") or info.get("redis_version", "0")
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
            raise Fault(
                "REFUSED", f"{url}: the server at {place} has version {version}; 6.2 or newer is needed. Upgrade it"
            )
        if info.get("role") == "slave":
            raise Fault(
                "READONLY",
                f"{url}: the server at {place} is a replica of {info.get('master_host')}:{info.get('master_port')} and "
                "takes no writes. Name the primary, or use redis+sentinel://",
            )
        policy = info.get("maxmemory_policy", "noeviction")
        if info.get("maxmemory", "0") != "0" and policy != "noeviction" and not self.options.allow_eviction:
            raise Fault(
                "REFUSED",
                f"{url}: the server at {place} evicts keys when memory is full (maxmemory-policy {policy}), so jobs "
                "would be lost. Set maxmemory-policy noeviction, or add ?allow_eviction=true to accept that",
            )
        self._check_types(wire)
        if not self._warned and info.get("aof_enabled") == "0" and not self._saves(wire):
            self._warned = True
            logger.warning(
                "%s: the server at %s keeps nothing on disk, so every job is lost when it restarts. Set appendonly yes",
                url,
                place,
            )

    def _check_types(self, wire: Wire) -> None:
        for key, kind in zip(KEYS, self._evaluate(wire, "types", (0,)), strict=True):
            wanted = b"zset" if key in ORDERED else b"hash"
            if kind not in (b"none", wanted):
                raise Fault(
                    "WRONGTYPE",
                    f"{self.options.url}: the key {self.name(key)} is a {kind.decode()} of somebody else's, not ours. "
                    "Choose another namespace with ?namespace=",
                )

    def _saves(self, wire: Wire) -> bool:
        """Whether snapshots are written. True where we may not ask: no warning without knowing."""
        wire.send(("CONFIG", "GET", "save"))
        try:
            reply = wire.reply()
        except redis.ResponseError:
            return True
        return bool(reply and reply[-1])
