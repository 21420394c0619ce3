"""Trains a module as torchd does: the same order of the data, the same random numbers, in
Python's own eager loop."""

import bisect
import dataclasses
import itertools
import time

import torch
from torch.nn import functional as F

MASK = (1 << 64) - 1
GOLDEN_RATIO = 0x9E3779B97F4A7C15


def finish(bits):
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & MASK
    return bits ^ (bits >> 31)


def mix(state):
    """One draw of SplitMix64."""
    return finish((state + GOLDEN_RATIO) & MASK)


def derive(seed, stream, place, part=0):
    """The seed of a stream, as src/runner/seed.rs has it: 2 is the order of an epoch, 3 a step, 5 a
    change of the examples of a step, whose place in the list is the part."""
    return mix((mix((mix(seed) + stream) & MASK) + place) & MASK) ^ finish(part)


def shuffled(count, seed, epoch):
    """The examples in the order of an epoch."""
    order = list(range(count))
    state = derive(seed, 2, epoch)
    for last in range(count - 1, 0, -1):
        state = (state + GOLDEN_RATIO) & MASK
        place = finish(state) * (last + 1) >> 64
        order[last], order[place] = order[place], order[last]
    return order


def drawn(weights, seed, epoch):
    """As many examples as there are, drawn by their weights for an epoch."""
    sums = list(itertools.accumulate(weights))
    state, order = derive(seed, 2, epoch), []
    for _ in weights:
        state = (state + GOLDEN_RATIO) & MASK
        order.append(bisect.bisect_right(sums, (finish(state) >> 11) / (1 << 53) * sums[-1]))
    return order


def batches(count, size, seed, order_of=shuffled):
    """Steps without end: the step's number, and the examples of its batch."""
    step = epoch = 0
    while True:
        order = order_of(count, seed, epoch)
        for start in range(0, count, size):
            yield step, order[start:start + size]
            step += 1
        epoch += 1


LOSSES = {"cross_entropy": F.cross_entropy, "nll": F.nll_loss, "mse": F.mse_loss}


def loss_of(module, inputs, target, loss):
    """The loss, and the first output where the loss is made of it."""
    outputs = module(**inputs)
    first = outputs[0] if isinstance(outputs, tuple) else outputs
    return (first, None) if loss is None else (LOSSES[loss](first, target), first)


def split(data, loss):
    """Inputs and target. A module with its own loss takes both."""
    inputs = dict(data)
    return inputs, None if loss is None else inputs.pop("y")


@dataclasses.dataclass
class Run:
    losses: list
    seconds: list
    """Of each step."""


def train(module, data, loss, optimizer, *, steps, batch_size, seed):
    """Trains `module` in place."""
    module.train()
    count = len(next(iter(data.values())))
    run = Run([], [])
    for step, places in batches(count, batch_size, seed):
        if step == steps:
            return run
        start = time.perf_counter()
        inputs, target = split({name: tensor[places] for name, tensor in data.items()}, loss)
        torch.manual_seed(derive(seed, 3, step))
        optimizer.zero_grad()
        value, _ = loss_of(module, inputs, target, loss)
        value.backward()
        optimizer.step()
        run.losses.append(value.item())
        run.seconds.append(time.perf_counter() - start)


def evaluate(module, data, loss):
    """The loss over all of the data in one batch, and the first output (None where the module
    has its own loss)."""
    module.eval()
    with torch.no_grad():
        value, first = loss_of(module, *split(data, loss), loss)
    return value.item(), first
