"""The promises of `outwork.brokers.base`, each stated once as a test. Run them against your own broker:

    import pytest
    from outwork.job import Terms
    from outwork.testing.conformance import BrokerConformance

    class TestMyBroker(BrokerConformance):
        @pytest.fixture
        def make_broker(self, tmp_path):
            def make(terms: Terms | None = None) -> MyBroker:
                return MyBroker.from_url(f"mine://{tmp_path}/jobs", terms)

            return make

`make_broker` gives a *further* broker object on the same storage each time it is called; the storage is empty at the
start of each test. What the broker's capabilities deny is skipped, with the name of the capability as the reason:
a broker without `results` keeps no records (nor knows what is next due, or has expired in a queue), one that is not
`fenced` does not know who claimed what, so a claim is the affair of the object that made it.
A store that can stand beside a transport is an `Outbox`, too: its promises are `OutboxConformance`.
This package needs pytest; nothing else of Outwork does.
"""

import pytest

pytest.register_assert_rewrite(
    *(
        f"{__name__}.{concern}"
        for concern in (
            "rig",
            "enqueueing",
            "claiming",
            "settling",
            "leasing",
            "scheduling",
            "waiting",
            "tending",
            "storing",
            "sending",
            "bounding",
            "composing",
            "steering",
            "burying",
        )
    )
)

from outwork.testing.conformance.rig import MakeBroker, Promises, Rig, new_job, shares  # noqa: E402
from outwork.testing.conformance.sending import OutboxConformance  # noqa: E402
from outwork.testing.conformance.suite import BrokerConformance  # noqa: E402

__all__ = ["BrokerConformance", "OutboxConformance", "MakeBroker", "Promises", "Rig", "new_job", "shares"]
