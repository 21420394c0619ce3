"""What the fixed order of a sum over ranks costs beside gloo's flat all-reduce: the calls that torchd's ranks make for one sum, and
one call of all_reduce, by turns, in the same processes, by the gloo of the same libtorch.

    .pytorch/bin/python benches/exchange.py [--rounds 5]

Two ranks gather both vectors and add them; more exchange parts, add them by a tree, and gather the sums (src/runner/ranks.rs). Small
vectors are gathered by any number of ranks.
"""

import argparse
import os
import statistics
import tempfile
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as processes

SIZES = {"8 numbers": 8, "MLP, 0.9 MB": 235_146, "ResNet-18, 45 MB": 11_181_642}
SMALL = 1 << 16
"""Numbers of all ranks together that each rank adds by itself."""
LARGE = 1 << 14
"""Numbers that are sent to each rank by themselves."""


def tree(rows):
    """The sum of vectors in the order of a binary tree."""
    while len(rows) > 1:
        rows = [rows[at] + rows[at + 1] if at + 1 < len(rows) else rows[at] for at in range(0, len(rows), 2)]
    return rows[0]


def gathered(own, ranks):
    """The vectors of all ranks."""
    rows = own.new_empty(ranks, own.numel())
    if own.numel() < LARGE:
        dist.all_gather_into_tensor(rows.view(-1), own)
        return rows
    rank = dist.get_rank()
    others = [(rank + apart) % ranks for apart in range(1, ranks)]
    under_way = [dist.irecv(rows[other], other) for other in reversed(others)] + [dist.isend(own, other) for other in others]
    rows[rank] = own
    for one in under_way:
        one.wait()
    return rows


def ordered(own, ranks):
    """A sum as torchd's ranks make it."""
    if ranks <= 2 or own.numel() * ranks <= SMALL:
        return tree(list(gathered(own, ranks)))
    part = -(-own.numel() // ranks)
    sent = own.new_zeros(part * ranks)
    sent[:own.numel()] = own
    received = torch.empty_like(sent)
    dist.all_to_all_single(received, sent)
    return gathered(tree(list(received.view(ranks, -1))), ranks).view(-1)[:own.numel()]


def flat(own, _):
    """A sum in whatever order."""
    dist.all_reduce(own)
    return own


def seconds(work, own, ranks, count):
    dist.barrier()
    began = time.perf_counter()
    for _ in range(count):
        work(own, ranks)
    return (time.perf_counter() - began) / count


def measure(rank, ranks, store, rounds):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    for name, size in SIZES.items():
        own = torch.zeros(size)
        count = max(3, min(300, 20_000_000 // size))
        taken = {ordered: [], flat: []}
        for turn in range(rounds + 1):
            for work in (ordered, flat) if turn % 2 else (flat, ordered):
                time_of = seconds(work, own, ranks, count)
                if turn:
                    taken[work].append(time_of)
        if rank == 0:
            ratios = sorted(ours / theirs for ours, theirs in zip(taken[ordered], taken[flat]))
            ours, theirs = (1000 * statistics.median(taken[work]) for work in (ordered, flat))
            print(f"| {ranks} | {name} | {ours:.2f} | {theirs:.2f} | {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |", flush=True)
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    print("| Ranks | Vector | In order, ms | all_reduce, ms | Ratio |\n|---|---|---|---|---|", flush=True)
    for ranks in (2, 4):
        with tempfile.TemporaryDirectory() as folder:
            processes.spawn(measure, (ranks, os.path.join(folder, "meeting"), rounds), ranks)


if __name__ == "__main__":
    main()
