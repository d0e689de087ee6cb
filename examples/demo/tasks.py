"""The tasks of a small shop."""

from __future__ import annotations

import os
import time

from outwork import Retry, TaskContext, task


class MailServerBusy(Exception):
    """The mail server asks to come back later."""


@task(takes_context=True, retry=Retry(max_attempts=5, delay=0.5, on=(MailServerBusy,)))
def send_receipt(context: TaskContext, order: int, to: str) -> str:
    """Write the receipt of an order and post it; the mail server is busy at the first try of every tenth."""
    time.sleep(0.05)
    if order % 10 == 0 and context.failed_attempts == 0:
        raise MailServerBusy(f"order {order}: try again later")
    with open(os.environ["OUTBOX"], "a") as outbox:
        outbox.write(f"{order}\n")
    return f"receipt {order} sent to {to}"
