"""What went wrong with the server, in one word for the code and one clear line for people."""

from __future__ import annotations

import re
import ssl
from typing import Final

import redis
from redis import exceptions

from outwork.brokers.redis.options import Address, Options
from outwork.errors import BrokerFull, BrokerRefused, BrokerUnavailable, OutworkError

PASSING: Final = frozenset({"BROKEN", "MOVED", "ASK", "TRYAGAIN", "READONLY", "CLUSTERDOWN", "MASTERDOWN"})
"""Worth another try at once: on a new connection, at another place, or when a slot has arrived."""
UNAVAILABLE: Final = PASSING | {"UNREACHABLE", "SILENT", "LOADING", "BUSY", "NOREPLICAS", "UNBLOCKED", "REPLICAS"}
FULL: Final = frozenset({"OOM", "MISCONF"})

_WORDS: Final = re.compile(
    r"(?:^|[\s-])(OOM|MISCONF|READONLY|LOADING|BUSY|NOREPLICAS|UNBLOCKED|WRONGTYPE|NOPERM|WRONGPASS|NOAUTH|NOSCRIPT|"
    r"MOVED|ASK|TRYAGAIN|CLUSTERDOWN|MASTERDOWN)\b"
)
_CLASSES: Final[list[tuple[type[Exception], str]]] = [
    (exceptions.NoScriptError, "NOSCRIPT"),
    (exceptions.MovedError, "MOVED"),
    (exceptions.AskError, "ASK"),
    (exceptions.TryAgainError, "TRYAGAIN"),
    (exceptions.ClusterDownError, "CLUSTERDOWN"),
    (exceptions.MasterDownError, "MASTERDOWN"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.BusyLoadingError, "LOADING"),
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.NoPermissionError, "NOPERM"),
    (exceptions.AuthenticationError, "WRONGPASS"),
    (exceptions.TimeoutError, "SILENT"),
    (exceptions.ConnectionError, "BROKEN"),
]
_ADVICE: Final = {
    "LOADING": "is still loading its data after a start. Try again in a moment",
    "BUSY": "is busy with somebody's script. Try again in a moment; SCRIPT KILL ends it",
    "NOREPLICAS": "has too few replicas to accept writes (min-replicas-to-write). Start them, or lower that setting",
    "READONLY": "is a replica, or is being made one, and takes no writes. Name the primary, or use redis+sentinel://",
    "MASTERDOWN": "is a replica that has lost its primary. Name the primary, or use redis+sentinel://",
    "CLUSTERDOWN": "says that the cluster is down: a part of its slots has no node. Look at CLUSTER INFO",
    "TRYAGAIN": "is moving our keys to another node of the cluster. Try again when that is done",
    "ASK": "is moving our keys to another node of the cluster. Try again when that is done",
    "MOVED": "belongs to a cluster, and our keys are on another node of it. Use redis+cluster://",
    "UNBLOCKED": "became a replica",
    "OOM": "has no memory left (maxmemory). Raise maxmemory, or shorten `keep`, so that finished jobs go sooner",
    "MISCONF": "cannot write to its disk and takes no writes. Look at its log; often the disk is full",
    "WRONGTYPE": "has a key of another type in our namespace. Choose another one with ?namespace=",
    "NOAUTH": "wants a password. Write it in the URL: redis://:password@host",
    "WRONGPASS": "does not accept the user or password of the URL",
    "NOPERM": "does not let this user do that. See the list of needed commands in the documentation",
}


class Fault(Exception):
    """Something that the server, or the way to it, does not let us do. `word` says which kind."""

    def __init__(self, word: str, text: str, place: Address | None = None) -> None:
        super().__init__(text)
        self.word = word
        self.text = text
        self.place = place
        """Where the keys are instead (MOVED)."""

    def as_error(self) -> OutworkError:
        """What the caller of the broker is told."""
        if self.word in FULL:
            return BrokerFull(self.text)
        if self.word in UNAVAILABLE:
            return BrokerUnavailable(self.text)
        return BrokerRefused(self.text)


def explain(error: Exception, place: Address, options: Options, *, connecting: bool = True) -> Fault:
    """The fault behind an error of the driver. `connecting`: it was met before anything was sent."""
    if isinstance(error, Fault):
        return error
    word = _word(error)
    said = _plain(error)
    if word in _ADVICE:
        detail = "" if word in ("LOADING", "READONLY", "TRYAGAIN") else f" ({said})"
        where = Address(error.host, error.port) if isinstance(error, exceptions.MovedError) else None
        return Fault(word, f"{options.url}: the server at {place} {_ADVICE[word]}{detail}", where)
    if word == "SILENT" and not connecting:
        text = (
            f"the server at {place} gave no answer within {options.timeout:g} s. Is it overloaded, or the network down?"
        )
        return Fault("SILENT", f"{options.url}: {text}")
    if word in ("SILENT", "BROKEN") and connecting:
        if _about_certificates(error):
            text = f"no TLS with {place}: {said}. Check the options ca, cert and key, and the host's name"
            return Fault("REFUSED", f"{options.url}: {text}")
        why = f"no answer within {options.connect_timeout:g} s" if word == "SILENT" else said
        text = f"cannot reach a server at {place} ({why}). Check that it runs there, and that nothing is in between"
        return Fault("UNREACHABLE", f"{options.url}: {text}")
    if word == "BROKEN":
        return Fault("BROKEN", f"{options.url}: the connection to {place} broke ({said})")
    if "DB index is out of range" in said or "invalid DB index" in said:
        text = f"the server at {place} has no database {options.database}. Choose a lower number (often 0 to 15)"
        return Fault("REFUSED", f"{options.url}: {text}")
    return Fault("REFUSED", f"{options.url}: the server at {place} says: {said}")


def _word(error: Exception) -> str:
    text = str(error)
    if isinstance(error, exceptions.AuthenticationError) and "required" in text:
        return "NOAUTH"
    if "user executing the script can't" in text or "ACL failure in script" in text:  # before and since Redis 7.2
        return "NOPERM"
    for kind, word in _CLASSES:
        if type(error) is kind:
            return word
    if isinstance(error, redis.ResponseError):
        found = _WORDS.search(text)
        if found:
            return found[1]
    return next((word for kind, word in _CLASSES if isinstance(error, kind)), "BROKEN" if _is_io(error) else "REFUSED")


def _is_io(error: Exception) -> bool:
    return isinstance(error, OSError) and not isinstance(error, redis.RedisError)


def _about_certificates(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError) or "CERTIFICATE_VERIFY_FAILED" in str(error) or "SSL" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _plain(error: Exception) -> str:
    """The driver's words without its own frame: 'Error 111 connecting to localhost:6379. Connection refused.'"""
    text = str(error).strip() or type(error).__name__
    text = re.sub(r"^Error (?:-?\d+ )?(?:connecting to|while \w+ (?:from|to)) \S+?[.:]? ", "", text)
    text = re.sub(r" script: \w+, on @user_script:\d+\.?$", "", text)
    return text.rstrip(".")
