"""A hundred jobs a minute, submitted, run and deleted, for ten minutes: memory and descriptors of
the daemon at the end of each minute, when none is in hand. Both have to be flat.

    export TORCHD_PROGRAM=target/release/torchd PYTHONPATH=python
    MINUTES=2 .package/bin/python benches/churn.py

JOBS is `programs` (short programs that report a scalar; the default) or `models` (a small model with
a few steps, each in a runner with libtorch: the machine needs half a core or more for a hundred a
minute). A_MINUTE is the number of jobs.
"""

import asyncio
import os
import pathlib
import tempfile
import time

import figures

MINUTES = int(os.environ.get("MINUTES", "10"))
A_MINUTE = int(os.environ.get("A_MINUTE", "100"))
JOBS = os.environ.get("JOBS", "programs")
MOST_GROWN = 1.0
"""Megabytes that the daemon may have more in the last third of the minutes than in the second."""
MOST_DESCRIPTORS = 2
"""Descriptors that it may have more: some are closed a moment after the last job is gone."""
MOST_SECONDS = 66.0
"""Seconds for the jobs of a minute."""
PROGRAM = """echo a line; echo '{"step": 1, "scalars": {"loss/train": 1}}' >/dev/fd/$TORCHD_REPORT_FD"""


def spec(data):
    """The spec of a short job."""
    if JOBS == "programs":
        return {"program": {"command": ["/bin/sh", "-c", PROGRAM]}}
    from torchd import tensor_file

    arrays = [tensor_file.Array("x", "F32", (64, 1), bytes(256)), tensor_file.Array("y", "F32", (64,), bytes(256))]
    tensor_file.write(data / "x.safetensors", arrays)
    return {"model": {"linear": {}}, "data": {"train": {"safetensors": {"path": "x.safetensors", "target": "y"}}},
            "training": {"max_steps": 5, "batch_size": 8}, "optimizer": {"sgd": {"learning_rate": 1e-6}},
            "resources": {"cpu_threads": 1}, "logging": {"scalar_every_steps": 1}}


def look(pid):
    """Memory in megabytes, resident and anonymous, descriptors and threads of a process."""
    entries = [len(list(pathlib.Path(f"/proc/{pid}/{kind}").iterdir())) for kind in ("fd", "task")]
    return figures.memory(pid), figures.memory(pid, "RssAnon"), *entries


async def one(client, job):
    """A job from its request to its removal."""
    job = await client.submit(job)
    await job.wait(progress=False)
    assert job.message.progress.step > 0, "it has told of no step"
    await job.delete()


async def measure(client, pid, job):
    """A line for each minute; the looks, and how long the jobs of each minute took."""
    looks, taken = [], []
    for minute in range(1, MINUTES + 1):
        begun = time.monotonic()
        jobs = []
        for number in range(A_MINUTE):
            await asyncio.sleep(begun + number * 60 / A_MINUTE - time.monotonic())
            jobs.append(asyncio.create_task(one(client, job)))
        await asyncio.gather(*jobs)
        taken.append(time.monotonic() - begun)
        looks.append(look(pid))
        resident, anonymous, descriptors, threads = looks[-1]
        print(f"minute {minute}: {A_MINUTE} jobs in {taken[-1]:.0f} s; {resident:.2f} MB resident, {anonymous:.2f} MB anonymous, "
              f"{descriptors} descriptors, {threads} threads", flush=True)
        await asyncio.sleep(begun + 60 - time.monotonic())
    return looks, taken


def grown(values):
    """From the second third to the last, each by its least: in the first one pools fill up, and a
    leak raises the least."""
    third = max(1, len(values) // 3)
    return min(values[-third:]) - min(values[-2 * third:-third] or values[:third])


async def main():
    from torchd import aio
    from torchd.daemon import Daemon

    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "data"
        data.mkdir()
        settings = {"programs.enabled": "true", "programs.allowed": "/usr/bin:/bin"}
        daemon = Daemon(data, pathlib.Path(folder) / "state", settings)
        try:
            async with await aio.connect(daemon.address, token=daemon.token) as client:
                print(f"{A_MINUTE} {JOBS} a minute, {MINUTES} minutes")
                looks, taken = await measure(client, daemon.pid, spec(data))
        finally:
            daemon.stop()
    _, anonymous, descriptors, _ = zip(*looks, strict=True)
    print(f"grown: {grown(anonymous):+.2f} MB anonymous, {grown(descriptors):+.1f} descriptors")
    figures.note(figures.Figure("churn/minute", f"s for {A_MINUTE} {JOBS}", taken, bound=MOST_SECONDS))
    figures.note(figures.Figure("churn/memory", "MB more", [grown(anonymous)], bound=MOST_GROWN))
    figures.note(figures.Figure("churn/descriptors", "more", [grown(descriptors)], bound=MOST_DESCRIPTORS))


if __name__ == "__main__":
    asyncio.run(main())
