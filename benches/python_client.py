"""The Python package beside what a program would use without it: each figure is the median of
several rounds in which both take turns, and their ratio.

    export TORCHD_PROGRAM=target/release/torchd PYTHONPATH=python:.python
    .package/bin/python benches/python_client.py [NAME ...]

NAME is `import`, `calls`, `scalars` or `start`. TensorBoard's reader comes from .python, which
`make test` fetches. POINTS is the number of scalars, ROUNDS that of rounds.
"""

import contextlib
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import figures

TOP = pathlib.Path(__file__).resolve().parents[1]
ROUNDS = int(os.environ.get("ROUNDS", "7"))
CALLS = 2000
TAGS = 7
"""Scalars of a step."""
POINTS = int(os.environ.get("POINTS", "1000000"))


def by_turns(ours, theirs, rounds=ROUNDS):
    """Seconds of both, in rounds; the first round does not count."""
    pairs = []
    for number in range(rounds + 1):
        order = (ours, theirs) if number % 2 else (theirs, ours)
        seconds = {task: task() for task in order}
        pairs.append((seconds[ours], seconds[theirs]))
    return pairs[1:]


def tell(what, pairs, unit="s", scale=1.0, entry="", peer=""):
    """A line: both medians, and the ratio of ours to theirs. With an entry also a figure."""
    if entry:
        both = [[seconds * scale for seconds in column] for column in zip(*pairs)]
        figures.note(figures.Figure(entry, unit, both[0], peer, both[1]))
    ratios = sorted(ours / theirs for ours, theirs in pairs)
    ours, theirs = (statistics.median(column) * scale for column in zip(*pairs))
    print(f"{what}: {ours:.4g} and {theirs:.4g} {unit}; ratio {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})", flush=True)


def timed(task):
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def process(code, *arguments):
    """Seconds from the start of a program to its first line."""
    start = time.perf_counter()
    program = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code, *arguments], stdout=subprocess.PIPE, text=True)
    line = program.stdout.readline()
    seconds = time.perf_counter() - start
    program.communicate()
    assert line, "the program has ended without a word"
    return seconds


def imports():
    tell("import torchd beside import torch", by_turns(lambda: process("import torchd; print(1, flush=True)"),
                                                       lambda: process("import torch; print(1, flush=True)")),
         entry="client/import", peer="import torch")


def calls():
    import grpc
    import torchd
    from torchd.protocol import METHODS

    with torchd.local(TOP / "examples") as client:
        job = client.submit(TOP / "examples/mnist.toml", {"training.epochs": 1}).wait(progress=False)
        method = METHODS["GetJob"]
        channel = grpc.insecure_channel(client.address, [("grpc.default_authority", "localhost")])
        bare = channel.unary_unary(method.path, request_serializer=method.request.SerializeToString, response_deserializer=method.response.FromString)

        def ours():
            for _ in range(CALLS):
                client.job(job.name)

        def theirs():
            for _ in range(CALLS):
                bare(method.request(name=job.name))

        pairs = by_turns(lambda: timed(ours), lambda: timed(theirs))
        tell("a call (GetJob) beside a bare stub", pairs, "ms", 1000 / CALLS, "client/call", "a bare stub")
        print(f"  calls a second: {CALLS / statistics.median(ours for ours, _ in pairs):.0f} and {CALLS / statistics.median(bare for _, bare in pairs):.0f}")


def job_with_scalars(client, data):
    """A job that has ended, with POINTS scalars; its data are written into that folder."""
    from torchd import tensor_file

    # An epoch has a thousand steps: after each a checkpoint is saved.
    arrays = [tensor_file.Array("x", "F32", (8000, 1), bytes(32000)), tensor_file.Array("y", "F32", (8000,), bytes(32000))]
    tensor_file.write(data / "x.safetensors", arrays)
    spec = {"model": {"linear": {}}, "data": {"train": {"safetensors": {"path": "x.safetensors", "target": "y"}}},
            "training": {"max_steps": POINTS // TAGS + 1, "batch_size": 8}, "optimizer": {"sgd": {"learning_rate": 1e-6}},
            "resources": {"cpu_threads": 1}, "logging": {"scalar_every_steps": 1}, "checkpoint": {"every_steps": POINTS}}
    return client.submit(spec).wait(progress=False)


def event_reader(folder):
    """A task that reads all scalars of event files with TensorBoard's reader, as rows."""
    from tensorboard.backend.event_processing import event_accumulator

    def read():
        reader = event_accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
        reader.Reload()
        tags = reader.Tags()
        rows = [(tag, event.step, event.wall_time, event.value) for tag in tags["scalars"] for event in reader.Scalars(tag)]
        rows += [(tag, event.step, event.wall_time, event.tensor_proto.float_val[0]) for tag in tags["tensors"] for event in reader.Tensors(tag)]
        return rows

    return read


def scalars():
    import pandas
    import torchd

    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "data"
        data.mkdir()
        with torchd.local(data, state_dir=pathlib.Path(folder) / "state", settings={"jobs.max_event_bytes": 1 << 30}) as client:
            job = job_with_scalars(client, data)
            found = job.scalars()
            print(f"{sum(map(len, found.values()))} points under {len(found)} tags")
            read = event_reader(pathlib.Path(job.message.directory) / "tensorboard")

            def ours():
                return job.scalars().to_pandas()

            def theirs():
                return pandas.DataFrame(read(), columns=["tag", "step", "time", "value"])

            assert len(ours()) == len(theirs())
            tell("scalars to pandas beside TensorBoard's reader", by_turns(lambda: timed(ours), lambda: timed(theirs)),
                 entry="client_scalars/pandas", peer="TensorBoard's reader")


OURS = """
import sys, torch, torchd
torch.manual_seed(0)
x, y = torch.randn(4000, 20), torch.randint(2, (4000,))
model = torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
client = torchd.connect(sys.argv[1])
job = client.train(model, (x, y), epochs=1, logging={"scalar_every_steps": 1})
for event in job.watch():
    if event.record.HasField("scalars"):
        print(event.record.scalars.values[0].value, flush=True)
        break
"""
THEIRS = """
import torch
torch.manual_seed(0)
x, y = torch.randn(4000, 20), torch.randint(2, (4000,))
model = torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.001)
batch = torch.randperm(4000)[:64]
loss = torch.nn.functional.cross_entropy(model(x[batch]), y[batch])
loss.backward()
optimizer.step()
print(loss.item(), flush=True)
"""


def start():
    import torch
    import torchd

    with torchd.local() as client:
        pairs = by_turns(lambda: process(OURS, client.address), lambda: process(THEIRS))
        tell("a program that calls client.train to its first step beside a plain loop", pairs, entry="client/start", peer="a plain loop")
        # In a notebook PyTorch has been imported, and something has been exported before.
        x, y = torch.randn(4000, 20), torch.randint(2, (4000,))
        seconds = []
        for number in range(ROUNDS + 1):
            torch.manual_seed(number)
            model = torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
            began = time.perf_counter()
            job = client.train(model, (x, y), epochs=1, logging={"scalar_every_steps": 1})
            asked = time.perf_counter()
            with contextlib.closing(job.watch()) as events:
                next(event for event in events if event.record.HasField("scalars"))
            seconds.append((asked - began, time.perf_counter() - began))
            job.wait(progress=False)
        taken, first = (statistics.median(column) for column in zip(*seconds[1:]))
        print(f"in a session: client.train returns after {taken:.3g} s, and the first step is there after {first:.3g} s")


FIGURES = {"import": imports, "calls": calls, "scalars": scalars, "start": start}

if __name__ == "__main__":
    for name in sys.argv[1:] or FIGURES:
        FIGURES[name]()
