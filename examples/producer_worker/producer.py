"""Enqueue invoices, and wait until a worker has written and sent them: python producer.py [HOW MANY]"""

import sys
from decimal import Decimal

import outwork
from invoices import send_invoice, write_invoice


def main(number: int) -> None:
    """Enqueue everything in two round trips, then wait."""
    written = outwork.enqueue_many(write_invoice.bind(n, Decimal(n) * Decimal("9.90")) for n in range(1, number + 1))
    sent = outwork.enqueue_many(send_invoice.bind(n, f"customer{n}@example.com") for n in range(1, number + 1))
    print(f"{len(written) + len(sent)} jobs enqueued; waiting for a worker")
    for result in (*written, *sent):
        print(result.get(timeout=60))
    retried = sum(result.attempts > 1 for result in written)
    print(f"all done, {retried} after a paper jam")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
