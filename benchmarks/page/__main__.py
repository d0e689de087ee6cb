"""Write docs/benchmarks.md and its plots anew, from what the benchmarks kept: python -m benchmarks.page (`make page`)

With --quick from what quick runs kept, into a folder that the documentation does not show.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path
from typing import Final

from benchmarks.page import budgets, peers, plots, tables
from benchmarks.page.cells import Book
from benchmarks.results import KEPT, QUICK, ROOT

PAGE: Final = ROOT / "docs" / "benchmarks.md"
PLACE: Final = re.compile(r"(<!-- (measured|plot): (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
TABLES: Final = {**tables.TABLES, **peers.TABLES, "budgets": budgets.budgets, "missed": budgets.missed}


def written(text: str, book: Book) -> str:
    """The page with its tables and plots as the results have them."""

    def made(found: re.Match[str]) -> str:
        shown = TABLES[found[3]](book) if found[2] == "measured" else plots.embedded(found[3], book)
        return f"{found[1]}{shown}{found[4]}"

    return PLACE.sub(made, text)


def write(source: Path, to: Path, results: Path) -> None:
    """The page of `source`, with its plots beside it. Raises ImportError without matplotlib."""
    from benchmarks.page import drawing

    book = Book(results)
    to.mkdir(parents=True, exist_ok=True)
    (to / source.name).write_text(written(source.read_text(), book))
    shutil.rmtree(to / "plots", ignore_errors=True)
    drawing.draw(book, to / "plots")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    write(PAGE, QUICK / "page" if quick else PAGE.parent, QUICK if quick else KEPT)


if __name__ == "__main__":
    main()
