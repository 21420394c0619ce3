"""The peer of benches/pytorch.py: a loop in PyTorch, as a good user writes it.

    peer.py train WORKLOAD FOLDER LOADER OPTIMIZER SECONDS [compile]
    peer.py try WORKLOAD FOLDER SECONDS
    peer.py export WORKLOAD FOLDER FILE

Each answer is a line of JSON. `train` tells its first loss as soon as it has it, and at the end when
each loss was read, as [step, seconds], of a steady state of so many seconds. `try` tells the examples a second of every loader with the
fused optimizer, then of every optimizer with the best loader.
"""

import contextlib
import json
import logging
import os
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from pytorch.marks import lasts, steady  # noqa: E402
from pytorch.workloads import DEVICE, ON_GPU, TOP, WORKLOADS  # noqa: E402

LOSSES = {"nll": F.nll_loss, "cross_entropy": F.cross_entropy}
OPTIMIZERS = {"plain": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}
"""Arguments of torch.optim."""
BENCH = os.getppid()
WINDOWS = 3
"""Times that each variant is looked at."""


def loaders(data):
    """The ways in which batches of this set can be made, those that take least memory first. On a
    GPU the set lies there: these sets are small."""
    if ON_GPU:
        return ["bytes indexed", "floats indexed"] if data.prepare else ["tensors indexed"]
    return ["bytes indexed", "floats indexed", "DataLoader", "DataLoader, 2 workers"] if data.prepare else ["tensors indexed", "DataLoader", "DataLoader, 2 workers"]


def indexed(inputs, targets, size, prepare=None):
    """Batches without end of tensors in memory, in a new order each epoch."""
    while True:
        for places in torch.randperm(len(inputs), device=inputs.device).split(size):
            batch = inputs[places]
            yield (prepare(batch) if prepare else batch), targets[places]


def repeated(loader):
    while True:
        yield from loader


def batches(data, loader, size):
    """Batches without end, as the loader's name says."""
    inputs, targets = data.inputs.to(DEVICE), data.targets.to(DEVICE)
    if loader == "bytes indexed":
        return indexed(inputs, targets, size, data.prepare)
    inputs = data.prepare(inputs) if data.prepare else inputs
    if not loader.startswith("DataLoader"):
        return indexed(inputs, targets, size)
    workers = 2 if loader.endswith("workers") else 0
    dataset = torch.utils.data.TensorDataset(inputs, data.targets)
    return repeated(torch.utils.data.DataLoader(dataset, batch_size=size, shuffle=True, num_workers=workers, persistent_workers=workers > 0))


def optimizer_of(workload, parameters, name):
    (kind, settings), = workload.optimizer.items()
    made = torch.optim.SGD if kind == "sgd" else torch.optim.AdamW
    return made(parameters, lr=settings["learning_rate"], **({"momentum": settings["momentum"]} if "momentum" in settings else {}), **OPTIMIZERS[name])


def losses(workload, data, loader, optimizer, compiled=False):
    """Trains without end; the steps done and the loss, of the first step and whenever it is read."""
    module = workload.module().to(DEVICE).train()
    if workload.channels_last:
        module.to(memory_format=torch.channels_last)
    update = optimizer_of(workload, module.parameters(), optimizer)
    loss_of = LOSSES[workload.loss]
    # On a GPU that mode captures the step as CUDA graphs.
    forward = torch.compile(module, mode="reduce-overhead" if ON_GPU else None) if compiled else module
    for step, (inputs, targets) in enumerate(batches(data, loader, workload.batch), 1):
        update.zero_grad()
        if workload.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.autocast(DEVICE, torch.bfloat16) if workload.bfloat16 else contextlib.nullcontext():
            loss = loss_of(forward(inputs), targets)
        loss.backward()
        update.step()
        if step == 1 or step % workload.every == 0:
            yield step, loss.item()
            if os.getppid() != BENCH:
                sys.exit("the bench has ended")


def tell(answer):
    print(json.dumps(answer), flush=True)


def train(workload, folder, loader, optimizer, seconds, compiled):
    torch.manual_seed(1)
    marks = []
    for step, loss in losses(workload, workload.read(folder), loader, optimizer, compiled):
        marks.append((step, time.perf_counter()))
        if step == 1:
            tell({"first": loss})
        # The first mark is that of one step; those of torchd begin with a whole interval.
        if lasts(steady(marks[1:])) >= seconds:
            break
    tell({"marks": marks[1:]})


def rates(workload, data, variants, seconds):
    """Examples a second of each variant, the median of a few windows, in which they take turns."""
    running = {}
    for variant in variants:
        running[variant] = losses(workload, data, *variant)
        for step, _ in running[variant]:
            if step >= workload.every:
                break
    seen = {variant: [] for variant in variants}
    for _ in range(WINDOWS):
        for variant, trained in running.items():
            start, steps, taken = time.perf_counter(), 0, 0.0
            while taken < seconds / WINDOWS:
                next(trained)
                steps += workload.every
                taken = time.perf_counter() - start
            seen[variant].append(steps * workload.batch / taken)
    return {variant: statistics.median(found) for variant, found in seen.items()}


def try_all(workload, folder, seconds):
    torch.manual_seed(1)
    data = workload.read(folder)
    found = rates(workload, data, [(loader, "fused") for loader in loaders(data)], seconds)
    loader, _ = max(found, key=found.get)
    found |= rates(workload, data, [(loader, optimizer) for optimizer in OPTIMIZERS], seconds)
    tell([[*variant, rate] for variant, rate in found.items()])


def export(workload, folder, file):
    sys.path.insert(0, str(TOP / "python"))
    from torchd.export import export as export_module

    torch.manual_seed(1)
    data = workload.read(folder)
    inputs = data.inputs[:4]
    started = time.perf_counter()
    export_module(workload.module(), data.prepare(inputs) if data.prepare else inputs, folder / file, loss=workload.loss, target=data.targets[:4])
    tell({"seconds": time.perf_counter() - started})


def main():
    # It tells that Triton is not there, which nothing here needs.
    logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)
    role, name, folder, *more = sys.argv[1:]
    workload, folder = WORKLOADS[name], pathlib.Path(folder)
    if role == "train":
        loader, optimizer, seconds, *compiled = more
        train(workload, folder, loader, optimizer, float(seconds), bool(compiled))
    elif role == "try":
        try_all(workload, folder, float(more[0]))
    else:
        export(workload, folder, more[0])


if __name__ == "__main__":
    main()
