import pytest

from outwork import Outwork
from signup import MEMBERS, OUTBOX, app


@pytest.fixture
def outwork_app() -> Outwork:
    """The application of the fixtures of Outwork: this one, not the default one."""
    return app


@pytest.fixture(autouse=True)
def empty() -> None:
    MEMBERS.clear()
    OUTBOX.clear()
