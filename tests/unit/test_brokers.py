"""From a URL to a broker: schemes, brokers of other packages, what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from outwork import Outwork
from outwork.brokers import known_schemes, open_broker
from outwork.brokers.memory import MemoryBroker
from outwork.brokers.url import BrokerURL, masked
from outwork.errors import InvalidURL, SettingsError

FOREIGN = """
from outwork.brokers.memory import MemoryBroker

class Foreign(MemoryBroker):
    def __init__(self, url="memory:", terms=None):
        super().__init__("memory:", terms)

    @classmethod
    def from_url(cls, url, terms=None):
        broker = cls()
        broker.url = url
        return broker

class NoBroker: ...
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of somebody else, with a broker and an entry point for it."""
    (tmp_path / "elsewhere_queue.py").write_text(FOREIGN)
    metadata = tmp_path / "elsewhere_queue-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere-queue\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[outwork.brokers]\nelsewhere = elsewhere_queue:Foreign\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "elsewhere_queue", raising=False)
    return "elsewhere_queue:Foreign"


def test_nothing_is_immediate() -> None:
    for url in ("", "  ", "immediate:"):
        broker = open_broker(url)
        assert isinstance(broker, MemoryBroker)
        assert broker.runs_in == "caller"


def test_a_class_beats_the_scheme(foreign: str) -> None:
    app = Outwork("redis://localhost/3", broker=foreign)

    @app.task(name="elsewhere.double")
    def double(number: int) -> int:
        return 2 * number

    result = double.enqueue(4)
    assert type(app.broker).__name__ == "Foreign"
    assert app.broker.url == "redis://localhost/3"
    assert app.get_result(result.id).task_name == "elsewhere.double"


def test_an_entry_point_adds_a_scheme(foreign: str) -> None:
    assert "elsewhere" in known_schemes()
    assert type(open_broker("elsewhere://host/1")).__name__ == "Foreign"


def test_a_class_that_is_none(foreign: str) -> None:
    with pytest.raises(SettingsError, match="not a subclass"):
        open_broker("x:", "elsewhere_queue:NoBroker")
    with pytest.raises(SettingsError, match="cannot be imported"):
        open_broker("x:", "no_such_package:Broker")


def test_an_unknown_scheme_names_the_known_ones() -> None:
    with pytest.raises(InvalidURL, match=r"'http'.*Known schemes: .*dummy.*immediate.*sqlite") as refused:
        open_broker("http://user:secret@example.org")
    assert "secret" not in str(refused.value)
    assert "memory" not in str(refused.value)


@pytest.mark.parametrize("url", ["thread:?concurency=3", "sqlite:///x.db?jurnal=wal", "dummy:?a=1"])
def test_an_unknown_option_names_the_known_ones(url: str) -> None:
    with pytest.raises(InvalidURL, match=r"unknown option .*Known options of \w+: .*lease"):
        open_broker(url)


def test_an_option_of_the_wrong_kind() -> None:
    with pytest.raises(InvalidURL, match="lease='soon'"):
        open_broker("thread:?lease=soon")
    with pytest.raises(InvalidURL, match="given twice"):
        open_broker("thread:?lease=1&lease=2")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:p/w@host/0", "redis://:***@host/0"),
        ("amqp://guest:guest@h:1/v?heartbeat=3", "amqp://guest:***@h:1/v?heartbeat=3"),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
        ("rediss://h?ssl_password=secret&db=1", "rediss://h?ssl_password=***&db=1"),
        ("sqlite:////tmp/tasks.db", "sqlite:////tmp/tasks.db"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_the_parts_of_a_url() -> None:
    url = BrokerURL("redis+sentinel://me:p%40ss@one:1,two:2/service?x=1")
    assert (url.scheme, url.username, url.password) == ("redis+sentinel", "me", "p@ss")
    assert (url.hosts, url.path) == (("one:1", "two:2"), "/service")
