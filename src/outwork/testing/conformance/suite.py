"""All promises in one class."""

from __future__ import annotations

from outwork.testing.conformance.bounding import BoundingPromises
from outwork.testing.conformance.burying import BuryingPromises
from outwork.testing.conformance.claiming import ClaimingPromises
from outwork.testing.conformance.composing import ComposingPromises
from outwork.testing.conformance.enqueueing import EnqueueingPromises
from outwork.testing.conformance.leasing import LeasingPromises
from outwork.testing.conformance.scheduling import SchedulingPromises
from outwork.testing.conformance.settling import SettlingPromises
from outwork.testing.conformance.steering import SteeringPromises
from outwork.testing.conformance.storing import StoringPromises
from outwork.testing.conformance.tending import TendingPromises
from outwork.testing.conformance.waiting import WaitingPromises


class BrokerConformance(
    EnqueueingPromises,
    ClaimingPromises,
    SettlingPromises,
    LeasingPromises,
    SchedulingPromises,
    WaitingPromises,
    TendingPromises,
    StoringPromises,
    BoundingPromises,
    ComposingPromises,
    SteeringPromises,
    BuryingPromises,
):
    """Every promise of the contract. Subclass it, give it a fixture `make_broker`, and pytest runs it."""
