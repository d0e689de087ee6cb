"""Count the words of files: a script with tasks, and nothing else to install or to start.

python words.py FILE...
"""

import sys
from pathlib import Path

from outwork import TaskFailed, task


@task
def count_words(path: str) -> int:
    """How many words a file has."""
    return len(Path(path).read_text().split())


def main(paths: list[str]) -> int:
    """Enqueue a job for each file, and print what became of it."""
    failed = 0
    for path in paths:
        result = count_words.enqueue(path)  # no broker is configured: the job runs here and now
        try:
            print(f"{result.get():6} {path}")
        except TaskFailed:
            failed += 1
            print(f"     - {path}: {result.errors[-1].message}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
