"""The command line that all parts have: python -m benchmarks.PART [BROKER...] [--quick] [--SIZE N]..."""

from __future__ import annotations

import argparse
from collections.abc import Collection


def options(doc: str | None, brokers: Collection[str] = (), **sizes: tuple[int, int]) -> argparse.Namespace:
    """What is asked for: `quick`, `brokers` if there are any to choose from, and each of the sizes.

    A size is given as (usually, with --quick) and becomes an option of its own.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if brokers:
        parser.add_argument("brokers", nargs="*", metavar="BROKER", help=f"of {', '.join(brokers)}; all if none")
    parser.add_argument("--quick", action="store_true", help="a try with small sizes, which the page does not show")
    for name, (usual, quick) in sizes.items():
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"{usual:,} if not said, {quick:,} when quick")
    given = parser.parse_args()
    if brokers:
        if unknown := set(given.brokers) - set(brokers):
            parser.error(f"not known here: {', '.join(sorted(unknown))}; there are {', '.join(brokers)}")
        given.brokers = given.brokers or list(brokers)
    for name, (usual, quick) in sizes.items():
        if getattr(given, name) is None:
            setattr(given, name, quick if given.quick else usual)
    return given
