"""A producer in a process of its own: `python -m support.produce URL PREFIX COUNT`."""

from __future__ import annotations

import sys

from support import ledger
from support.chores import app, step


def main(url: str, prefix: str, count: int) -> None:
    app.override({"broker_url": url})
    for number in range(count):
        key = f"{prefix}-{number}"
        ledger.write("A", key)
        step.enqueue(key, 0.0)
        ledger.write("K", key)
    app.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
