"""What the tests with engines share: a daemon, a job of four shards, launchers, and what tells that all is gone."""

import contextlib
import importlib.util
import os
import pathlib
import re
import select
import shutil
import signal
import sys
import tempfile
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = TOP / "python"
EXAMPLES = TOP / "examples"
sys.path.insert(0, str(PACKAGE))
TORCHD = pathlib.Path(os.environ.setdefault("TORCHD_PROGRAM", str(TOP / "target" / "debug" / "torchd"))).absolute()
# Variables of a person are not for these tests.
for name in ("TORCHD_SERVER", "TORCHD_TOKEN", "TORCHD_TOKEN_FILE", "TORCHD_CA_FILE", "TORCHD_CERT_FILE", "TORCHD_KEY_FILE"):
    os.environ.pop(name, None)
# Threads that spin would take a small machine from the other ranks.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import torchd  # noqa: E402

RANKS = not (TORCHD.parent / "libtdranks.so").exists() and f"{TORCHD.parent} has no libtdranks.so: make ranks INTO={TORCHD.parent}"
TORCH = importlib.util.find_spec("torch") is None and "PyTorch is missing: scripts/engine-tools"
PYSPARK = importlib.util.find_spec("pyspark") is None and "pyspark is missing: scripts/engine-tools"
JAVA = shutil.which("java") is None and "java is missing: sudo apt-get install openjdk-17-jre-headless"
"""Why tests are skipped, or False."""

JOB = {
    "model": {"sequential": {"layers": [
        {"conv2d": {"out_channels": 8, "kernel_size": 5, "stride": 2}}, {"batch_norm2d": {}}, {"relu": {}},
        {"dropout2d": {"p": 0.2}}, {"flatten": {}}, {"linear": {"out_features": 600}}, {"relu": {}}, {"linear": {}},
    ]}},
    "data": {
        "train": {"idx": {"images": "mnist-5k/train-images-idx3-ubyte.gz", "labels": "mnist-5k/train-labels-idx1-ubyte.gz"}},
        "limit": 1005, "augment": [{"noise": {"std": 0.1}}],
    },
    "training": {"epochs": 2, "batch_size": 30, "shards": 4},
    "optimizer": {"sgd": {"learning_rate": 0.05, "momentum": 0.9}},
    "resources": {"cpu_threads": 1},
    "checkpoint": {"every_steps": 7},
    "logging": {"scalar_every_steps": 1},
    "seed": 5,
}
"""A network with everything whose numbers depend on the slice that it sees; 68 steps."""
ENDLESS = {**JOB, "training": {"max_steps": 10_000_000, "batch_size": 30, "shards": 4}}
"""A job that is ended from outside."""


def scaled(spec, engine, world_size=2, min_world_size=None, storage="", **more):
    """A job of ranks that an engine places; by mailboxes in `storage`, where that is named."""
    scale = {"engine": engine, "world_size": world_size, "storage": str(storage), **({"min_world_size": min_world_size} if min_world_size else {})}
    return {**spec, "scale": scale, **more}


def enter(add_cleanup, manager):
    """Enters a context for as long as a test, or a class of tests, takes."""
    value = manager.__enter__()
    add_cleanup(manager.__exit__, None, None, None)
    return value


class WithDaemon(unittest.TestCase):
    """Tests with one daemon for all of a class, its client, and a folder for the files of ranks."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(enter(cls.addClassCleanup, tempfile.TemporaryDirectory(prefix="torchd-engines-")))
        cls.places = cls.folder / "ranks"
        cls.places.mkdir()
        cls.state = cls.folder / "state"
        # A rank that was killed is missed soon.
        settings = {"jobs.rank_lease": "3s", "output.mirror_roots": str(cls.folder)}
        cls.client = enter(cls.addClassCleanup, torchd.local(data_root=EXAMPLES, state_dir=cls.state, settings=settings))

    @classmethod
    def weights(cls):
        """The weights of JOB on one rank of this machine, which nothing happens to."""
        if "_weights" not in cls.__dict__:
            cls._weights = cls.trained(cls.client.submit(JOB).wait(progress=False))
        return cls._weights

    @classmethod
    def trained(cls, job):
        """The weights of a job that has ended."""
        return (cls.state / job.name / "artifacts" / "model.safetensors").read_bytes()

    def assert_whole(self, job, attempts=1):
        """A job has come to the numbers of this machine in so many attempts, and nothing is left of it."""
        job.wait(progress=False)
        self.assertEqual(job.message.attempt, attempts)
        self.assertEqual(self.trained(job), self.weights())

    def assert_gone(self, job, processes):
        """These processes end, and leave nothing of a job."""
        for pid in processes:
            until_gone(pid)
        self.assertEqual([path.name for path in self.places.iterdir() if job.name.removeprefix("jobs/") in path.name], [])


def wait_for(job, is_it):
    """Waits until the daemon tells of a job what is asked for, by its events."""
    with contextlib.closing(job.watch()) as events:
        for event in events:
            if event.HasField("snapshot") and is_it(job.message):
                return job
    raise AssertionError(f"the job has ended as {job.state}: {job.message.end.message}")


def past(job, step, attempt=1):
    """Waits until an attempt of a job is past a step."""
    return wait_for(job, lambda message: message.attempt == attempt and job.state == "RUNNING" and message.progress.step >= step)


def wait_for_state(job, state):
    """Waits until a job is in a state."""
    return wait_for(job, lambda _: job.state == state)


def line_of(pid):
    """The command line of a process, "" where it is gone."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def environment_of(pid):
    """The environment of a process, empty where it is gone."""
    with contextlib.suppress(OSError):
        pairs = pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
        return dict(pair.partition("=")[::2] for pair in pairs if "=" in pair)
    return {}


def all_processes():
    """The numbers of all."""
    return [int(folder.name) for folder in pathlib.Path("/proc").iterdir() if folder.name.isdecimal()]


def outposts(places):
    """`torchd --rank` of launches whose ranks have their files there, by rank."""
    found = {pid: environment_of(pid) for pid in all_processes() if re.match(r"(\S*/)?torchd --rank", line_of(pid))}
    ours = {int(given["RANK"]): pid for pid, given in found.items() if given.get("TORCHD_RANK_DIR") == str(places)}
    return [pid for _, pid in sorted(ours.items())]


def runners(places):
    """Runners whose files lie there, by rank."""
    found = [(line_of(pid), pid) for pid in all_processes()]
    return [pid for line, pid in sorted(found) if line.split(" ")[0].endswith("torchd-runner") and str(places) in line]


def parent_of(pid):
    """The process that started another one."""
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def until_gone(pid, seconds=60):
    """Waits for the end of a process that need not be a child."""
    try:
        number = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not select.select([number], [], [], seconds)[0]:
            raise AssertionError(f"{line_of(pid)} does not end")
    finally:
        os.close(number)


def strike(pid, number=signal.SIGKILL):
    """Ends a process that has to be there."""
    os.kill(pid, number)
