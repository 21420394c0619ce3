"""Figures as tables in Markdown."""

import dataclasses
import os
import pathlib
import statistics
import sys


@dataclasses.dataclass(frozen=True)
class Spread:
    """The median of some values, with the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values):
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self):
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def ratios(above, below):
    """The spread of the quotients, each of two measurements of one round."""
    return Spread.of(one / other for one, other in zip(above, below, strict=True))


def row(*cells):
    return "| " + " | ".join(map(str, cells)) + " |"


def head(*names):
    return row(*names) + "\n|" + "---|" * len(names)


def number(value):
    """A number of three or four digits that count."""
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.3g}"


def megabytes(size):
    return f"{size / 1e6:.0f}"


def load():
    """The load average of the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


def note(text):
    """Says how far the bench is."""
    print(text, file=sys.stderr, flush=True)


def machine():
    """The processor and the number of cores that this process may use."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "an unknown processor")
    return f"{name}, {cores()} cores"


def cores():
    return len(os.sched_getaffinity(0))
