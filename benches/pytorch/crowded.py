"""Tables of a machine that has other work: processes beside that compute, and several jobs at once."""

import dataclasses

from . import processes, sides
from .marks import lasts, pace_between, steady
from .sides import Training, Variant
from .table import Spread, cores, head, load, note, number, ratios, row
from .workloads import WORKLOADS

CASES = ["cnn64", "mlp256"]
SETTINGS = ("default", "PASSIVE", "one thread", "GOMP_SPINCOUNT=1000")
"""Of the peer."""
SLOTS = 4
"""Jobs of one thread at once, and the daemon's slots."""


def together(trainings, workload, seconds):
    """Examples a second of all of these jobs, while all of them train in the steady state."""
    for training in trainings:
        training.runner()
    for training in trainings:
        training.steady(seconds)
    # They have not begun at the same time: the rest of each counts that all have in common.
    parts = [steady(training.marks()) for training in trainings]
    begun, ended = max(part[0][1] for part in parts), min(part[-1][1] for part in parts)
    while min(lasts([mark for mark in part if begun <= mark[1] <= ended]) for part in parts) < seconds / 2:
        for training in trainings:
            training.steady(lasts(steady(training.marks())) + seconds / 2)
        parts = [steady(training.marks()) for training in trainings]
        ended = min(part[-1][1] for part in parts)
    marks = [training.end() for training in trainings]
    return workload.batch * sum(pace_between(found, begun, ended) for found in marks)


def by_turns(turns, rounds):
    """The figure of each side in each round; the first round does not count."""
    seen = {side: [] for side in turns}
    for number_of_round in range(rounds + 1):
        for side in list(turns) if number_of_round % 2 else list(reversed(turns)):
            rate = turns[side]()
            note(f"  round {number_of_round} {side}: {number(rate)} examples/s")
            if number_of_round > 0:
                seen[side].append(rate)
    return seen


def busy_turns(name, folder, client, options):
    """What is measured beside one process per core that computes, and torchd alone."""
    workload = WORKLOADS[name]
    loader = "bytes indexed" if workload.lean else "tensors indexed"

    def ours():
        return together([Training(client, workload.spec(options.threads))], workload, options.seconds)

    def ours_busy():
        with processes.busy(cores()):
            return ours()

    def theirs(setting):
        with processes.busy(cores()):
            return sides.pytorch(name, workload, folder, Variant(loader, "fused", setting), options.seconds).speed

    return {"torchd alone": ours, "torchd": ours_busy, **{setting: (lambda setting=setting: theirs(setting)) for setting in SETTINGS}}


def busy_row(workload, seen, before):
    best = max(SETTINGS, key=lambda setting: Spread.of(seen[setting]).median)
    # The other processes are as many as the cores, so that half of the machine is a fair share.
    share = ratios(seen["torchd"], [rate / 2 for rate in seen["torchd alone"]])
    return row(workload.title, number(Spread.of(seen["torchd alone"]).median), number(Spread.of(seen["torchd"]).median), share,
               *(number(Spread.of(seen[setting]).median) for setting in SETTINGS), best, ratios(seen["torchd"], seen[best]), f"{before} to {load()}")


def jobs_turns(name, client, options):
    """What is measured of several jobs at once."""
    workload = WORKLOADS[name]

    def jobs(count, threads):
        return lambda: together([Training(client, workload.spec(threads)) for _ in range(count)], workload, options.seconds)

    turns = {"all": jobs(1, cores()), "one thread": jobs(1, 1), "four": jobs(SLOTS, 1)}
    return turns | ({"halves": jobs(2, cores() // 2)} if cores() > 1 else {})


def jobs_row(workload, seen, before):
    def cell(side):
        return number(Spread.of(seen[side]).median) if side in seen else "none"

    halves = ratios(seen["halves"], seen["all"]) if "halves" in seen else "none"
    return row(workload.title, cell("all"), cell("halves"), halves, cell("one thread"), cell("four"), ratios(seen["four"], seen["one thread"]),
               ratios(seen["four"], seen["all"]), f"{before} to {load()}")


def run(cases, options):
    """Prints both tables, and gives back the ratios."""
    told = {}

    def keep(name, above, below):
        told[name] = dataclasses.asdict(ratios(above, below))
        told[name]["ratio"] = told[name].pop("median")

    print(f"Examples a second beside {cores()} processes that compute:\n")
    print(head("case", "torchd alone", "torchd", "of a fair share", *(f"eager, {setting}" for setting in SETTINGS), "best eager", "torchd to it", "load"), flush=True)
    for name in cases:
        note(f"{name} on a busy machine, load {load()}")
        before = load()
        with sides.temporary() as folder:
            WORKLOADS[name].write(folder)
            with sides.daemon(folder) as client:
                seen = by_turns(busy_turns(name, folder, client, options), options.rounds)
        print(busy_row(WORKLOADS[name], seen, before), flush=True)
        keep(f"{name}/busy_share", seen["torchd"], [rate / 2 for rate in seen["torchd alone"]])
        best = max(SETTINGS, key=lambda setting: Spread.of(seen[setting]).median)
        keep(f"{name}/busy", seen["torchd"], seen[best])
    print(f"\nExamples a second of several jobs together, with {SLOTS} slots:\n")
    print(head("case", "one job, all cores", "two jobs, half of the cores each", "to one", "one job, one thread", f"{SLOTS} jobs, one thread each",
               "to one thread", "to all cores", "load"), flush=True)
    for name in cases:
        note(f"{name}, several jobs, load {load()}")
        before = load()
        with sides.temporary() as folder:
            WORKLOADS[name].write(folder)
            with sides.daemon(folder, settings={"jobs.cpu_slots": max(SLOTS, cores())}) as client:
                seen = by_turns(jobs_turns(name, client, options), options.rounds)
        print(jobs_row(WORKLOADS[name], seen, before), flush=True)
        if "halves" in seen:
            keep(f"{name}/halves", seen["halves"], seen["all"])
        keep(f"{name}/slots", seen["four"], seen["one thread"])
    return told
