"""What the tests of the package share: a daemon of their own, and small jobs."""

import contextlib
import os
import pathlib
import sys
import tempfile
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = TOP / "examples"
sys.path.insert(0, str(TOP / "python"))
os.environ.setdefault("TORCHD_PROGRAM", str(TOP / "target" / "debug" / "torchd"))
# What a person has set is not for these.
for name in ("TORCHD_SERVER", "TORCHD_TOKEN", "TORCHD_TOKEN_FILE", "TORCHD_CA_FILE", "TORCHD_CERT_FILE", "TORCHD_KEY_FILE"):
    os.environ.pop(name, None)

import torchd  # noqa: E402

LINEAR = {
    "model": {"linear": {}},
    "data": {"train": {"idx": {"images": "mnist-5k/train-images-idx3-ubyte.gz", "labels": "mnist-5k/train-labels-idx1-ubyte.gz"}}},
    "training": {"epochs": 1, "batch_size": 500},
    "optimizer": {"sgd": {"learning_rate": 0.01}},
    "logging": {"scalar_every_steps": 1},
}
"""Eight steps."""
ENDLESS = {**LINEAR, "training": {"max_steps": 10_000_000, "batch_size": 500}, "checkpoint": {"every_steps": 20}}
"""A job that is ended from outside."""


def enter(add_cleanup, manager):
    """Enters a context for as long as a test, or a class of tests, takes."""
    value = manager.__enter__()
    add_cleanup(manager.__exit__, None, None, None)
    return value


class WithDaemon(unittest.TestCase):
    """Tests with one daemon for all of a class, and its client."""

    settings: dict = {}

    @classmethod
    def setUpClass(cls):
        cls.state = pathlib.Path(enter(cls.addClassCleanup, tempfile.TemporaryDirectory(prefix="torchd-test-")))
        cls.client = enter(cls.addClassCleanup, torchd.local(data_root=EXAMPLES, state_dir=cls.state, settings=cls.settings))


def first_scalar(job):
    """Waits until a job has told a value, by its events; their number so far."""
    with contextlib.closing(job.watch()) as events:
        for event in events:
            if event.record.HasField("scalars"):
                return event.record.sequence
    raise AssertionError("the job has ended without a value")


def wait_for_state(job, state):
    """Waits until a job is in a state, by its events."""
    with contextlib.closing(job.watch()) as events:
        for event in events:
            if event.HasField("snapshot") and job.state == state:
                return
    raise AssertionError(f"the job has ended as {job.state}")
