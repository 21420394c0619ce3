"""Holds the ratios of benches against those of benches/ratios.json, and fails where one is lower
than its margin allows. Times are never compared: they are the machine's.

    export TORCHD_PROGRAM=target/release/torchd PYTHONPATH=python:.python
    .package/bin/python benches/check.py [--table FILE] [--found FILE] [--update] [CASE ...]

A case is the part of an entry before its slash. By default all cases of the table are measured, by
benches/service.py and, those that it does not know, by benches/pytorch.py: alone, and those that it
measures on a busy machine there too. `--found` takes the ratios of a run before (`--json` of both)
instead of measuring. `--update` writes ratios that were found into the table, and adds entries that
it lacks.

The table has {"case/measure": {"ratio": x, "margin": y}}: an entry is worse where its ratio is
below x * (1 - y), y being 0.25 by default. The exit code is 1 where an entry is worse or was not
found.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import service
from pytorch import crowded, workloads

MARGIN = 0.25
TABLE = service.TOP / "benches" / "ratios.json"


def load(path, flag):
    """Ratios by entry, of a file that a flag names."""
    try:
        entries = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"{flag} is {path}: {error}; a file as `--json` of benches/service.py writes it is needed")
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) and "ratio" in entry for entry in entries.values()):
        sys.exit(f'{flag} is {path}, which has something else; {{"case/measure": {{"ratio": 1.5}}}} is needed')
    return entries


def case_of(entry):
    """The case of an entry."""
    return entry.partition("/")[0]


def judge(committed, found):
    """A verdict: `worse`, `missing`, `better` than the margin either way, or `as before`."""
    if found is None:
        return "missing"
    margin = committed.get("margin", MARGIN)
    if found["ratio"] < committed["ratio"] * (1 - margin):
        return "WORSE"
    return "better" if found["ratio"] > committed["ratio"] * (1 + margin) else "as before"


def runs(cases):
    """The scripts that measure these cases: each with its arguments and variables."""
    others = [case for case in cases if case not in service.CASES]
    unknown = [case for case in others if case not in workloads.CASES]
    if unknown:
        sys.exit(f"CASES names {', '.join(unknown)}; one of {', '.join([*service.CASES, *workloads.CASES])} is needed")
    ours = [case for case in cases if case in service.CASES]
    if ours:
        yield "service.py", ours, {}
    # torch.compile has no entry.
    if others:
        yield "pytorch.py", [], {"CASES": " ".join(others), "COMPILE": "0"}
    busy = [case for case in others if case in crowded.CASES]
    if busy:
        yield "pytorch.py", [], {"CASES": " ".join(busy), "BUSY": "1"}


def measure(cases):
    """The ratios of these cases, by the benches that have them."""
    found = {}
    for script, arguments, variables in runs(cases):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "ratios.json"
            command = service.in_python(script, "--json", str(file), *arguments)
            ended = subprocess.run(command, stdout=sys.stderr, env={**os.environ, **variables})
            # Without a file the entries are missing, and the table says so.
            found |= json.loads(file.read_text()) if file.exists() else {}
            if ended.returncode != 0:
                print(f"{script} has ended with {ended.returncode}", file=sys.stderr)
    return found


def row(entry, committed, found):
    """A row of the table, and whether the entry fails."""
    verdict = judge(committed, found)
    seen = f"{found['ratio']:.2f} ({found['least']:.2f} to {found['most']:.2f})" if found else ""
    margin = committed.get("margin", MARGIN)
    return f"| {entry} | {committed['ratio']:.2f} | {seen} | {margin:.0%} | {verdict} |", verdict in ("WORSE", "missing")


def update(path, table, found):
    """Writes the ratios that were found into the table, and tells them. Margins stay."""
    for entry, ratio in found.items():
        print(f"{entry}: {table.get(entry, {}).get('ratio', 'new')} -> {ratio['ratio']:.2f}")
        table[entry] = {**table.get(entry, {}), "ratio": round(ratio["ratio"], 2)}
    path.write_text("{\n" + ",\n".join(f" {json.dumps(entry)}: {json.dumps(table[entry])}" for entry in sorted(table)) + "\n}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", metavar="FILE", type=pathlib.Path, default=TABLE, help="another table than benches/ratios.json")
    parser.add_argument("--found", metavar="FILE", type=pathlib.Path, help="ratios of a run before")
    parser.add_argument("--update", action="store_true", help="write what is found into the table")
    parser.add_argument("case", nargs="*")
    given = parser.parse_args()
    table = load(given.table, "--table")
    cases = given.case or list(dict.fromkeys(map(case_of, table)))
    if given.found:
        found = {entry: ratio for entry, ratio in load(given.found, "--found").items() if case_of(entry) in cases}
    else:
        found = measure(cases)
    if given.update:
        return update(given.table, table, found)
    rows = [row(entry, committed, found.get(entry)) for entry, committed in table.items() if case_of(entry) in cases]
    if not rows:
        sys.exit(f"CASES names {', '.join(cases)}, of which {given.table} has no entry; it has {', '.join(dict.fromkeys(map(case_of, table)))}")
    print("| Entry | Committed | Found | Margin | Verdict |\n|---|---|---|---|---|")
    print("\n".join(text for text, _ in rows))
    print(f"\n{service.machine()}")
    for entry in sorted(set(found) - set(table)):
        print(f"{entry} is not in the table; --update adds it")
    if failing := sum(fails for _, fails in rows):
        sys.exit(f"{failing} of {len(rows)} entries are worse than the table allows, or missing")


if __name__ == "__main__":
    main()
