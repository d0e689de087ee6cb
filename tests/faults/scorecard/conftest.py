"""The servers of the scorecard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from faults.scorecard.grounds import Ground


@pytest.fixture(scope="session")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[type[Any]], Ground]]:
    """The servers, each started when it is first wanted."""
    made: dict[type[Ground], Ground] = {}

    def ground(kind: type[Any]) -> Ground:
        if kind not in made:
            made[kind] = kind(tmp_path_factory.mktemp(kind.name))
        return made[kind]

    yield ground
    for one in made.values():
        one.close()
