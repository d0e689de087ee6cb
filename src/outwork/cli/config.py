"""`outwork config`: each setting with its value and where it comes from."""

from __future__ import annotations

import click

from outwork.cli.common import Command, Target, json_option, target_options
from outwork.cli.output import say_json, say_table


@click.command("config", cls=Command)
@json_option
@target_options
def config_command(target: Target, as_json: bool) -> None:
    """Show every setting with its value and its origin. Passwords are masked."""
    from outwork.settings import flat, shown_value

    app = target.load(need_tasks=False)
    values = flat(app.settings)
    origins = {key: app.origins.get(key) or app.origins.get(f"{key}_file", "default") for key in values}
    if as_json:
        from outwork.brokers.url import masked

        values["broker_url"] = masked(app.settings.broker_url)
        say_json({key: {"value": value, "origin": origins[key]} for key, value in values.items()})
        return
    rows = [(key, "-" if value is None else shown_value(key, value), origins[key]) for key, value in values.items()]
    say_table(("SETTING", "VALUE", "ORIGIN"), rows)
