"""The benchmarks, on private servers: python -m benchmarks [BROKER...] [--part PART]... [--quick]

Each part is a module of its own, `python -m benchmarks.PART`, and keeps what it measured in `benchmarks/results`. All
of them take a quarter of an hour on two cores that do nothing else. With --quick, to see that they work, they take
three minutes, and what they measure is kept apart. `make page` writes the documentation from it. Not among them,
because each takes longer: `benchmarks.growth` and `benchmarks.peers`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from typing import Final

from benchmarks.results import ROOT
from benchmarks.servers import BROKERS, WITHOUT_RABBITMQ

PARTS: Final[dict[str, list[str]]] = {
    "start": [],
    "endtoend": list(BROKERS),
    "idle": list(BROKERS),
    "drivers": list(BROKERS),
    "bare": ["sqlite", "redis", "postgresql"],
    "bound": WITHOUT_RABBITMQ,
    "flow": list(BROKERS),
    "django": ["sqlite", "postgresql"],
    "isolation": [],
    "channels": [],
}
"""Each with the brokers that it measures, if there is a choice."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("brokers", nargs="*", metavar="BROKER", help=f"of {', '.join(BROKERS)}; all if none is named")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one; can be said again")
    parser.add_argument("--quick", action="store_true", help="a try with small sizes, which the page does not show")
    given = parser.parse_args()
    if unknown := set(given.brokers) - set(BROKERS):
        parser.error(f"not known here: {', '.join(sorted(unknown))}")
    failed: list[str] = []
    for part in given.part or PARTS:
        wanted = [broker for broker in PARTS[part] if broker in given.brokers]
        if given.brokers and not wanted:
            continue
        print(f"== {part}", flush=True)
        began = time.monotonic()
        command = [sys.executable, "-m", f"benchmarks.{part}", *wanted, *(["--quick"] if given.quick else [])]
        if subprocess.run(command, cwd=ROOT).returncode:
            failed.append(part)
        print(f"== {part}: {time.monotonic() - began:.0f} s\n", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
