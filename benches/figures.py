"""Figures of benches: lines of JSON that each bench appends to the file that FIGURES names, and the
table that they make.

A line has `entry` ("case/measure"), `unit`, `ours` (values, one a round), and either `peer` with
`theirs` (values of the same rounds; with `rate` more is better) or `bound`, the most that is
promised. `benches/harness/figures.rs` writes the same.
"""

import dataclasses
import json
import os
import statistics


@dataclasses.dataclass
class Figure:
    """A line."""

    entry: str
    unit: str
    ours: list
    peer: str = ""
    theirs: list = dataclasses.field(default_factory=list)
    rate: bool = False
    bound: float | None = None

    def ratio(self):
        """How many times better ours is than the peer's: median, least and most of the rounds.
        None without a peer."""
        if not self.theirs:
            return None
        pairs = zip(self.ours, self.theirs, strict=True)
        ratios = [ours / theirs if self.rate else theirs / ours for ours, theirs in pairs]
        return {"ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}

    def is_missed(self):
        """Whether it is above its bound. A peer that is better misses nothing: the ratio says it."""
        return self.bound is not None and statistics.median(self.ours) > self.bound


def note(figure):
    """Appends a figure to FIGURES, if there is such a file."""
    if path := os.environ.get("FIGURES"):
        with open(path, "a") as file:
            file.write(json.dumps(dataclasses.asdict(figure)) + "\n")


def read(path):
    """The figures of a file."""
    with open(path) as file:
        return [Figure(**json.loads(line)) for line in file]


def ratios(figures):
    """Those with a peer, as `--json` writes them: by entry, ratio, least and most."""
    return {figure.entry: ratio for figure in figures if (ratio := figure.ratio())}


HEAD = "| Figure | torchd | Beside | Times better |\n|---|---|---|---|"


def row(figure):
    """A row of the table."""
    ours = f"{statistics.median(figure.ours):.3g} {figure.unit}"
    if ratio := figure.ratio():
        beside = f"{figure.peer} {statistics.median(figure.theirs):.3g}"
        better = f"{ratio['ratio']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f})"
    elif figure.bound is None:
        beside = better = ""
    else:
        beside, better = f"at most {figure.bound:.3g}", "MISSED" if figure.is_missed() else "kept"
    return f"| {figure.entry} | {ours} | {beside} | {better} |"


def memory(pid, field="VmRSS"):
    """A figure of a process's memory in megabytes, by its name in /proc/<pid>/status."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) / 1000 for line in status if line.startswith(field + ":"))
