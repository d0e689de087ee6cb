"""How long `import outwork` takes, in interpreters of its own: python -m benchmarks.start"""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.options import options
from benchmarks.results import recording

PROGRAM = "import time; began = time.perf_counter(); import outwork; print((time.perf_counter() - began) * 1e3)"


def main() -> None:
    given = options(__doc__, rounds=(20, 3))
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found: list[float] = []
    for _ in range(given.rounds + 1):
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True)
        found.append(float(done.stdout))
    with recording("start", quick=given.quick) as run:
        run.add("outwork", "import outwork", "ms", *found[1:])  # the first one may have compiled it


if __name__ == "__main__":
    main()
