"""The work that leaves the request."""

from __future__ import annotations

from outwork import Retry, current_context, task


@task
def add(x: str, y: str) -> None:
    """The values of a form are texts: the sum of "1" and "2" is "12". With `int(x)` in the view it would be 3."""
    print(f"The sum of {x} and {y} is {x + y}.", flush=True)


@task(retry=Retry(max_attempts=5, delay=1.0))
def send_mail(to: str) -> None:
    """Its mail server does not answer the first time."""
    if current_context().attempt == 1:
        raise ConnectionError("the mail server does not answer")
    print(f"Mail to {to} sent.", flush=True)
