"""What all commands share: how errors end, the options that name the application, and the question before damage.

Every command is complete by itself, so that other programs can mount it in a click group of their own.
"""

from __future__ import annotations

import functools
import shlex
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from outwork.cli import habits
from outwork.durations import bytes_of, seconds_of
from outwork.errors import BrokerUnavailable, NoBroker, OutworkError, SettingsError, UnknownTask, WrongArguments

if TYPE_CHECKING:
    from outwork.app import Outwork

R = TypeVar("R")

FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3

TARGET: Final = "outwork.cli.target"
VERBOSE: Final = "outwork.cli.verbose"
STARTER: Final = "outwork.cli.starter"
"""What starts a worker where `outwork worker` does not: of a framework's command line."""


def exit_code(error: OutworkError) -> int:
    """The code a command ends with: 1 failed, 2 usage, import or configuration, 3 broker unreachable."""
    if isinstance(error, SettingsError | UnknownTask | WrongArguments):
        return USAGE
    if isinstance(error, BrokerUnavailable):
        return UNREACHABLE
    return FAILED


def is_verbose() -> bool:
    """Whether `-v` was given."""
    return bool(click.get_current_context().meta.get(VERBOSE))


def worker_line() -> str:
    """What starts a worker for this command's application, to be typed as it is: `outwork worker -A shop`, say."""
    ctx = click.get_current_context()
    starter: str | None = ctx.meta.get(STARTER)
    if starter is not None:
        return starter
    path = ctx.parent.command_path if ctx.parent is not None else "outwork"
    target: Target = ctx.meta.get(TARGET, Target())
    return " ".join([path, "worker", *map(shlex.quote, target.words())])


def _be_verbose(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[VERBOSE] = True


class Command(click.Command):
    """A command whose errors of Outwork are one line on stderr; with `-v` the traceback comes before it."""

    def get_help_option_names(self, ctx: click.Context) -> list[str]:
        return sorted({"-h", *super().get_help_option_names(ctx)})

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        *own, help_option = super().get_params(ctx)
        verbose = click.Option(
            ["-v", "--verbose"],
            is_flag=True,
            expose_value=False,
            callback=_be_verbose,
            help="Say more; show tracebacks.",
        )
        return [*own, verbose, help_option]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if (here := habits.OPTIONS.get(error.option_name)) is None:
                raise
            message = f"No such option {error.option_name!r}. Here it is {here}"
            raise click.NoSuchOption(error.option_name, message=message, ctx=ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OutworkError as error:
            if ctx.meta.get(VERBOSE):
                click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)
            click.echo(f"outwork: {error}", err=True)
            ctx.exit(exit_code(error))


class Group(click.Group):
    """A group of such commands."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            if (here := habits.COMMANDS.get(args[0])) is not None:
                raise click.UsageError(f"No such command {args[0]!r}. Here it is {here}", ctx) from None
            raise

    def get_help_option_names(self, ctx: click.Context) -> list[str]:
        return sorted({"-h", *super().get_help_option_names(ctx)})


class Target(NamedTuple):
    """Which application a command is about, as its options say."""

    app: str | None = None
    config: Path | None = None
    broker: str | None = None

    def words(self) -> list[str]:
        """The options again, but for a URL with a password."""
        broker = None if self.broker is None or "@" in self.broker else self.broker
        config = None if self.config is None else str(self.config)
        named = (("-A", self.app), ("-C", config), ("--broker", broker))
        return [word for option, value in named if value is not None for word in (option, value)]

    def command_line(self) -> dict[str, object]:
        """The settings among the options."""
        return {} if self.broker is None else {"broker_url": self.broker}

    def load(self, *, need_tasks: bool) -> Outwork:
        """The application; `need_tasks` False: only its broker is wanted."""
        from outwork.loading import load_app

        targets = () if self.app is None else (self.app,)
        return load_app(targets, config=self.config, command_line=self.command_line(), need_tasks=need_tasks)

    def load_shared(self, *, need_tasks: bool = False) -> Outwork:
        """The application, for its jobs. Raises NoBroker where no other process can see them."""
        from outwork.loading import candidate, hint_for_django

        app = self.load(need_tasks=need_tasks)
        broker = app.broker
        if not broker.capabilities.shared:
            where = f"jobs of {broker.url}" if app.settings.broker_url else "no broker is configured, so jobs"
            raise NoBroker(
                f"{where} are known to the process that enqueued them, and to no other. Set a broker, for example "
                "--broker sqlite:///tasks.db, OUTWORK_BROKER_URL, or `broker_url` in outwork.toml; or name the "
                f"application that has one:  -A {candidate() or 'shop'}{hint_for_django('outwork status')}"
            )
        return app


_OPTIONS: Final = (
    click.option("-A", "--app", metavar="MODULE[:OBJECT]", help="Where the application or its tasks are."),
    click.option(
        "-C",
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="The configuration file, instead of outwork.toml.",
    ),
    click.option("--broker", metavar="URL", help="Where the jobs are, instead of what is configured."),
)


def target_options(function: Callable[..., R]) -> Callable[..., R]:
    """Add `-A`, `-C` and `--broker`; the function gets them as `target`. Those of the group around are the default."""

    @functools.wraps(function)
    def run(*args: Any, app: str | None, config: Path | None, broker: str | None, **rest: Any) -> R:
        meta = click.get_current_context().meta
        outer: Target = meta.get(TARGET, Target())
        target = Target(app or outer.app, config or outer.config, outer.broker if broker is None else broker)
        meta[TARGET] = target
        return function(*args, target=target, **rest)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run


def duration_value(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """The callback of an option that is a length of time: seconds, or a text like 10m."""
    try:
        return None if value is None else seconds_of(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def size_value(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    """The callback of an option that is an amount of memory: bytes, or a text like 512M."""
    try:
        return None if value is None else bytes_of(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def worker_id_value(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """The callback of an option that names a worker."""
    from outwork.worker.options import worker_id_of

    try:
        return None if value is None else worker_id_of(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


def has_terminal() -> bool:
    """Whether somebody can answer a question."""
    return sys.stdin.isatty()


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone; without a terminal only `--yes` is an answer."""
    if yes:
        return
    ctx = click.get_current_context()
    if not has_terminal():
        click.echo(f"outwork: {question} There is no terminal to answer on: repeat the command with --yes", err=True)
        ctx.exit(USAGE)
    if not click.confirm(question, err=True):
        click.echo("nothing was changed", err=True)
        ctx.exit(FAILED)
