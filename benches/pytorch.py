"""torchd beside PyTorch's own loops: `make bench-pytorch`.

    .package/bin/python benches/pytorch.py [--json FILE]

It trains the same models on the same data by jobs of torchd and by loops in PyTorch, by turns, and
prints a table in Markdown. Variables choose what is measured:

CASES="cnn64 gpt"   some cases alone; `pytorch.workloads.CASES` has their names
ROUNDS=5            rounds that count
SECONDS=2.5         time of a turn in the steady state
COMPILE=0           without torch.compile, which takes minutes to compile
THREADS=2           threads of torchd's jobs; by default all cores
DEVICE=cuda         both sides on a GPU, with ResNet-50 besides and torch.compile(mode="reduce-overhead");
                    torchd's steps are captured as CUDA graphs, unless GRAPHS=0
BUSY=1              another table: on a machine that is busy, and with several jobs at once
KNOBS=1             another table: which settings of a process change the numbers of a result
TORCHD_BIN=FOLDER   the programs, else those of target/release

The ratios are torchd's advantage, so that above 1 is better: `--json` writes them as
{"cnn64/speed": {"ratio": 1.3, "least": 1.2, "most": 1.4}}.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from pytorch import crowded, knobs, sides, speed  # noqa: E402
from pytorch.table import cores, load, machine  # noqa: E402
from pytorch.workloads import CASES, WORKLOADS  # noqa: E402


def chosen(allowed):
    """The cases that CASES names, else all."""
    names = os.environ.get("CASES", "").split() or list(allowed)
    unknown = [name for name in names if name not in allowed]
    if unknown:
        sys.exit(f"CASES: no case is called {', '.join(unknown)}; there are {', '.join(allowed)}")
    return names


def whole(name, default):
    """A variable that is a whole number, at least 1."""
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or int(text) < 1:
        sys.exit(f"{name} is {text!r}; a whole number of at least 1 is needed")
    return int(text)


def seconds():
    """The steady state of a turn."""
    text = os.environ.get("SECONDS") or "2.5"
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 3600:
        sys.exit(f"SECONDS is {text!r}; a number above 0 and below 3600 is needed")
    return found


def versions():
    """A line on machine and versions."""
    told = subprocess.run([sides.PROGRAMS / "torchctl", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    import importlib.metadata
    return f"{machine()}; {told}; PyTorch {importlib.metadata.version('torch')}, Python {platform.python_version()}; load {load()} at the start"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--json", type=pathlib.Path, metavar="FILE", help="the file of the ratios")
    given = arguments.parse_args()
    is_busy, is_knobs = (os.environ.get(name, "0") not in ("", "0") for name in ("BUSY", "KNOBS"))
    if is_busy and is_knobs:
        sys.exit("BUSY and KNOBS are both set; one of them at a time is measured")
    cases = chosen(WORKLOADS if is_knobs else crowded.CASES if is_busy else CASES)
    options = speed.Options(rounds=whole("ROUNDS", 5), threads=whole("THREADS", cores()), seconds=seconds(), compiled=os.environ.get("COMPILE") != "0")
    print(versions() + "\n", flush=True)
    if is_knobs:
        knobs.run(cases)
        return
    told = (crowded if is_busy else speed).run(cases, options)
    if given.json:
        given.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
