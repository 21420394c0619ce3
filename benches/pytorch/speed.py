"""The table of the two sides on a machine that does nothing else."""

import dataclasses
import functools

from . import sides
from .sides import Variant
from .table import Spread, head, load, megabytes, note, number, ratios, row
from .workloads import EXPORTED, ON_GPU, WORKLOADS

TRIED_SHARE = 0.4
"""Time of each variant of the peer before the turns, as a share of that of a turn."""
TRIED = ("default",) if ON_GPU else ("default", "PASSIVE", "one thread")
COMPILED_ROUNDS = 3
"""Rounds with torch.compile, the first of which fills its cache and does not count."""
CLOSE = 0.98
"""A variant that is so close to the fastest counts as fast, and the one that takes least memory is
taken."""
LEAN = "bytes indexed"
MEASURES = ("speed", "memory", "first_step")


@dataclasses.dataclass(frozen=True)
class Options:
    """How much is measured."""

    rounds: int
    """That count."""
    threads: int
    """Of torchd's jobs."""
    seconds: float
    """Of the steady state in a turn."""
    compiled: bool
    """torch.compile too."""


def best_variant(name, folder, seconds):
    """The fastest way in which the peer trains in the eager mode."""
    found = []
    for setting in TRIED:
        for loader, optimizer, rate in sides.ask_peer(sides.SETTINGS[setting], "try", name, folder, TRIED_SHARE * seconds):
            found.append((Variant(loader, optimizer, setting), rate))
            note(f"  {found[-1][0]}: {number(rate)} examples/s")
    fastest = max(rate for _, rate in found)
    # They come in the order of the memory that they take.
    return next(variant for variant, rate in sorted(found, key=lambda one: one[0].loader != LEAN) if rate >= CLOSE * fastest)


@dataclasses.dataclass
class Result:
    """What a case has given, round by round."""

    case: str
    title: str
    variant: Variant
    ours: list
    eager: list
    """The fastest variant."""
    lean: list
    """The one that takes least memory and is first at its first step."""
    compiled: list
    loads: tuple

    def theirs(self, measure):
        """The peer's figure of each round: the best of its variants."""
        return [min(getattr(turn, measure) for turn in turns if turn) for turns in zip(self.eager, self.lean)]

    def ratios(self):
        """The advantage of torchd in each measure."""
        return {
            "speed": ratios([turn.speed for turn in self.ours], [turn.speed for turn in self.eager]),
            "memory": ratios(self.theirs("memory"), [turn.memory for turn in self.ours]),
            "first_step": ratios(self.theirs("first_step"), [turn.first_step for turn in self.ours]),
        }


def measure(name, wanted, folder, options):
    """The results of a workload: of torchd's own network, of its archive, or of both."""
    workload = WORKLOADS[name]
    note(f"{name}: {workload.title}, load {load()}")
    before = load()
    workload.write(folder)
    ours = {}
    if name in wanted:
        ours[name] = None
    if name + EXPORTED in wanted:
        seconds = sides.ask_peer({}, "export", name, folder, f"{name}.pt2")["seconds"]
        note(f"  exported in {seconds:.1f} s")
        ours[name + EXPORTED] = f"{name}.pt2"
    variant = best_variant(name, folder, options.seconds)
    note(f"  the best: {variant}")
    with sides.daemon(folder) as client, sides.temporary() as cache:
        turns = {case: functools.partial(sides.torchd_turn, client, workload, options.threads, options.seconds, exported) for case, exported in ours.items()}
        turns["eager"] = functools.partial(sides.pytorch, name, workload, folder, variant, options.seconds)
        if workload.lean and variant.loader != LEAN:
            turns["lean"] = functools.partial(sides.pytorch, name, workload, folder, dataclasses.replace(variant, loader=LEAN), 0.1)
        if options.compiled:
            compiled = dataclasses.replace(variant, compiled=True)
            turns["compiled"] = functools.partial(sides.pytorch, name, workload, folder, compiled, options.seconds, cache)
        seen = take_turns(turns, options.rounds)
    loads = (before, load())
    lean = seen.get("lean") or [None] * options.rounds
    return [Result(case, workload.title + (", exported" if exported else ""), variant, seen[case], seen["eager"], lean, seen.get("compiled"), loads)
            for case, exported in ours.items()]


def take_turns(turns, rounds):
    """Figures of each side in each round; the first round does not count."""
    seen = {side: [] for side in turns}
    for number_of_round in range(rounds + 1):
        order = list(turns) if number_of_round % 2 else list(reversed(turns))
        for side in order:
            if side == "compiled" and number_of_round >= COMPILED_ROUNDS:
                continue
            try:
                turn = turns[side]()
            except RuntimeError as error:
                if side != "compiled":
                    raise
                note(f"  torch.compile does not work: {error}")
                continue
            note(f"  round {number_of_round} {side}: {number(turn.speed)} examples/s, {megabytes(turn.memory)} MB ({megabytes(turn.anonymous)} anonymous), "
                 f"first step after {turn.first_step:.2f} s")
            if number_of_round > 0:
                seen[side].append(turn)
    return seen


COLUMNS = ("case", "examples/s", "best eager", "ratio", "MB (anonymous)", "eager MB (anonymous)", "ratio", "first step s", "eager s", "ratio",
           "torch.compile", "best eager variant", "load")


def line(result):
    """A row of the table."""
    def median(turns, measure):
        return Spread.of(getattr(turn, measure) for turn in turns).median

    found = result.ratios()
    fewest = [min((turn for turn in turns if turn), key=lambda turn: turn.memory) for turns in zip(result.eager, result.lean)]
    return row(
        result.title, number(median(result.ours, "speed")), number(median(result.eager, "speed")), found["speed"],
        f"{megabytes(median(result.ours, 'memory'))} ({megabytes(median(result.ours, 'anonymous'))})",
        f"{megabytes(median(fewest, 'memory'))} ({megabytes(median(fewest, 'anonymous'))})", found["memory"],
        f"{median(result.ours, 'first_step'):.2f}", f"{Spread.of(result.theirs('first_step')).median:.2f}", found["first_step"],
        number(median(result.compiled, "speed")) if result.compiled else "none", result.variant, " to ".join(result.loads))


def run(cases, options):
    """Prints the table, and gives back the ratios by case and measure."""
    told = {}
    print(head(*COLUMNS), flush=True)
    for name in WORKLOADS:
        wanted = [case for case in cases if case.removesuffix(EXPORTED) == name]
        if not wanted:
            continue
        with sides.temporary() as folder:
            for result in measure(name, wanted, folder, options):
                print(line(result), flush=True)
                for measured, spread in result.ratios().items():
                    told[f"{result.case}/{measured}"] = {"ratio": spread.median, "least": spread.least, "most": spread.most}
    return told
