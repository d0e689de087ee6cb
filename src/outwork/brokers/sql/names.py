"""The names of our tables."""

from __future__ import annotations

import re
from typing import Final

PREFIX: Final = "outwork_"
"""How they begin, unless a URL says otherwise."""


def identifier(text: str) -> str:
    """The beginning of a table's name. Raises ValueError."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        raise ValueError("letters, digits and underscores are needed")
    return text
