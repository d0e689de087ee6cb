"""Exit codes of a worker, as supervisors and scripts read them."""

from typing import Final

CLEAN: Final = 0
FAILED: Final = 1
USAGE: Final = 2
BROKER_AWAY: Final = 3
RECYCLE: Final = 75
"""Between a worker process and its supervisor only: start another one at once (EX_TEMPFAIL)."""
