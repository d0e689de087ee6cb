"""For the tests of an application: its jobs recorded, run in their callers, or drained from a queue, without a server.

With pytest, use the fixtures of `outwork.testing.plugin`, which is installed with the package.
"""

from outwork.testing.jobs import EnqueuedJob, Jobs
from outwork.testing.modes import Clock, Inline, LocalWorker, Recorder, inline, local_worker, recording

__all__ = ["Clock", "EnqueuedJob", "Inline", "Jobs", "LocalWorker", "Recorder", "inline", "local_worker", "recording"]
