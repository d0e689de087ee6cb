"""What the ready-made tasks share: their settings, their name in an application, and a day of patience.

Each of their jobs is something that the other side takes or refuses as a whole: a mail for one recipient, a part of a
text message, a resource, a request. So a job that is tried again never repeats what was taken already.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Final, Generic, TypeVar

from outwork import app as applications
from outwork.app import Outwork
from outwork.configuration.sections import Section
from outwork.errors import DuplicateTask, MissingDriver, SettingsError
from outwork.retry import Retry

S = TypeVar("S", bound=Section)
F = TypeVar("F", bound=Callable[..., Any])

FOR_A_DAY: Final = Retry(max_attempts=34, delay=10.0, factor=2.0, max_delay=7200.0)
"""About 24 hours on average: the first repetitions within a minute, then one an hour."""


class Remote(Generic[S]):
    """A ready-made task: where its settings come from, and which application runs it.

    The settings are a struct given by code; or a function that returns one, called where a job is made and where it
    runs (so that it may ask `current_app.config`, say); or, with None, the table of the configuration file and the
    environment of the application. Nothing of them travels with a job.
    """

    def __init__(self, section: str, kind: type[S], settings: S | Callable[[], S] | None, app: Outwork | None) -> None:
        self.app = app or applications.default_app
        self._section = section
        self._kind = kind
        self._given = settings

    @property
    def settings(self) -> S:
        """The settings, as they are now. Raises SettingsError."""
        if isinstance(self._given, self._kind):
            return self._given
        if callable(self._given):
            return self._given()
        found = self.app.settings.sections.get(self._section)
        if isinstance(found, self._kind):
            return found
        try:
            return self._kind()
        except TypeError as error:
            raise SettingsError(
                f"[{self._section}] is not configured ({error}). Add the table to outwork.toml, set "
                f"OUTWORK_{self._section.upper()}__..., or give {self._kind.__name__}(...) by code"
            ) from error

    def declared_as(self, name: str) -> None:
        """Refuse a name under which the application has a task of other settings. Raises DuplicateTask."""
        known = self.app.tasks.get(name)
        other = getattr(known.fn, "__self__", None) if known is not None else None
        if isinstance(other, Remote) and _identity(other._given) != _identity(self._given):
            raise DuplicateTask(f"two sets of settings for the task {name!r}. Give one of them a name=... of its own")


def _identity(given: object) -> object:
    """A function is the same when its module was loaded again, or its factory called again."""
    name: str | None = getattr(given, "__qualname__", None)
    return given if name is None else (given.__module__, name)


def need(module: str, extra: str, what: str) -> None:
    """Raises MissingDriver that names the extra which brings a library."""
    if find_spec(module) is None:
        raise MissingDriver(f"{what} needs {module}:  pip install 'outwork[{extra}]'")
