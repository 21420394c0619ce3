"""Several ranks beside one process on the CPU: examples a second of the same job, the sides by turns, and what computing in
shards costs.

    scripts/bench ranks.py [--rounds 3] [cnn64 cnn1000 mlp256 resnet18]

`make ranks` builds the library that ranks need. The sides are one process with all threads, one with one thread, one with
one thread and two shards, and two ranks with one thread each: the machine should have two cores or more, and nothing else
to do.
"""

import argparse
import asyncio
import pathlib
import statistics
import tempfile

MODELS = {
    "cnn64": ({"mnist_cnn": {}}, 64, 400),
    "cnn1000": ({"mnist_cnn": {}}, 1000, 60),
    "mlp256": ({"mlp": {"hidden": [256, 128]}}, 256, 800),
    "resnet18": ({"resnet": {"depth": 18}}, 64, 16),
}
"""Model, examples of a batch and steps of each case."""
SIDES = {
    "1 process, 2 threads": ({}, {"cpu_threads": 2}),
    "1 process, 1 thread": ({}, {"cpu_threads": 1}),
    "1 process, 1 thread, 2 shards": ({"shards": 2}, {"cpu_threads": 1}),
    "2 ranks, 1 thread each": ({}, {"cpu_threads": 1, "ranks": 2}),
}
EXAMPLES = pathlib.Path(__file__).resolve().parent.parent / "examples"


def spec(model, batch_size, steps, training, resources):
    """A job on the images of the example, whose scalars come four times."""
    files = {"images": "mnist-5k/train-images-idx3-ubyte.gz", "labels": "mnist-5k/train-labels-idx1-ubyte.gz"}
    return {"model": model, "data": {"train": {"idx": files}},
            "training": {"max_steps": steps, "batch_size": batch_size, **training},
            "optimizer": {"sgd": {"learning_rate": 0.01, "momentum": 0.5}},
            "resources": {"device": "cpu", **resources}, "logging": {"scalar_every_steps": steps // 4}}


async def speed(client, job):
    """Examples a second: the median of the scalars but for the first, while which the machine warms up."""
    job = await client.submit(job)
    await job.wait(progress=False)
    values = (await job.scalars("throughput/examples_per_second"))["throughput/examples_per_second"].value
    await job.delete()
    return statistics.median(values[1:])


async def main():
    from torchd import aio
    from torchd.daemon import Daemon

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("cases", nargs="*", choices=[[], *MODELS], default=[])
    arguments = parser.parse_args()
    print("| Case | Side | Examples/s | Times one process with one thread |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(EXAMPLES, pathlib.Path(folder) / "state", {"jobs.cpu_slots": "2"})
        try:
            async with await aio.connect(daemon.address, token=daemon.token) as client:
                for case in arguments.cases or MODELS:
                    model, batch_size, steps = MODELS[case]
                    found = {side: [] for side in SIDES}
                    for _ in range(arguments.rounds):
                        for side, (training, resources) in SIDES.items():
                            found[side].append(await speed(client, spec(model, batch_size, steps, training, resources)))
                    for side, values in found.items():
                        ratios = [value / one for value, one in zip(values, found["1 process, 1 thread"], strict=True)]
                        print(f"| {case} | {side} | {statistics.median(values):,.0f} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |", flush=True)
        finally:
            daemon.stop()


if __name__ == "__main__":
    asyncio.run(main())
