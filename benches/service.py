"""The daemon's figures in one table: Markdown on standard output, while the benches' own words go to
standard error.

    export TORCHD_PROGRAM=target/release/torchd PYTHONPATH=python:.python
    .package/bin/python benches/service.py [--json FILE] [CASE ...]

Runs the benches of the cases that are named, of all by default. Each notes its figures
(benches/figures.py). With a peer, both were measured by turns, and the last column says how many
times better torchd is: the median of the rounds, with the least and the most. Without one it says
whether the bound is kept. `--json` writes {"case/measure": {"ratio": x, "least": y, "most": z}} for
the figures with a peer. `--list` names the cases.

The exit code is 1 where a bench has failed. BENCHES names a folder that holds the benches in Rust,
as programs of their names; by default cargo runs them.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import figures

TOP = pathlib.Path(__file__).resolve().parents[1]


def in_rust(name, *arguments):
    """The command of a bench in Rust."""
    if folder := os.environ.get("BENCHES"):
        return [str(pathlib.Path(folder) / name), *arguments]
    return ["cargo", "bench", "--quiet", "--locked", "--bench", name, "--", *arguments]


def in_python(script, *arguments):
    """The command of a bench in Python."""
    return [sys.executable, "-W", "ignore", str(TOP / "benches" / script), *arguments]


CASES = {
    "idle": in_rust("jobs", "idle"),
    "first_step": in_rust("first_step"),
    "metrics": in_rust("gpus", "scrapes"),
    "access": in_rust("access"),
    "event_files": in_rust("event_writer"),
    "client": in_python("python_client.py", "import", "calls", "start"),
    "client_scalars": in_python("python_client.py", "scalars"),
    "scalars": in_python("read_scalars.py"),
    "journal": in_rust("long_journal"),
    "checkpoints": in_rust("jobs", "checkpoints"),
    "watchers": in_rust("jobs", "watchers"),
    "queue": in_rust("jobs", "queue"),
    "restart": in_rust("jobs", "restart"),
    "churn": in_python("churn.py"),
}
"""Commands by case: an entry is `case/measure`. The longest comes last."""


def measure(cases):
    """The figures of these cases, and the cases whose bench has failed."""
    found, failed = [], []
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "figures"
            file.touch()
            print(f"# {case}", file=sys.stderr, flush=True)
            ended = subprocess.run(CASES[case], cwd=TOP, stdout=sys.stderr, env={**os.environ, "FIGURES": str(file)})
            found += figures.read(file)
            if ended.returncode != 0:
                failed.append(case)
    return found, failed


def machine():
    """The machine and how busy it is, in a line."""
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown processor")
    return f"{os.cpu_count()} cores, {model}; load {', '.join(f'{load:.1f}' for load in os.getloadavg())}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write the ratios there")
    parser.add_argument("--list", action="store_true", help="name the cases and end")
    parser.add_argument("case", nargs="*")
    given = parser.parse_args()
    if given.list:
        return print("\n".join(CASES))
    if unknown := [case for case in given.case if case not in CASES]:
        sys.exit(f"CASES names {', '.join(unknown)}; one of {', '.join(CASES)} is needed")
    before = machine()
    found, failed = measure(given.case or CASES)
    print(figures.HEAD)
    for figure in found:
        print(figures.row(figure))
    print(f"\nBefore: {before}. After: {machine()}.")
    if given.json:
        pathlib.Path(given.json).write_text(json.dumps(figures.ratios(found), indent=1) + "\n")
    if failed:
        sys.exit(f"these benches have failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
