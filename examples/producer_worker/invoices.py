"""The tasks: imported by the program that enqueues, and by the worker that runs them."""

import asyncio
import random
from decimal import Decimal

from outwork import Retry, task


@task(retry=Retry(max_attempts=5, delay=0.05))
def write_invoice(number: int, total: Decimal) -> str:
    """Write one invoice; the printer jams now and then, which is what retries are for."""
    if random.random() < 0.2:
        raise OSError(f"paper jam at invoice {number}")
    return f"invoice {number} over {total}"


@task(queue_name="mail", priority=5)
async def send_invoice(number: int, to: str) -> str:
    """Send it: an `async def` task runs on the worker's event loop, thousands at once."""
    await asyncio.sleep(0.01)
    return f"invoice {number} sent to {to}"
