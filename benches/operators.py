"""The time of an operator in the interpreter of exported models, beside a plain loop in C++ and eager PyTorch.

    .pytorch/bin/python benches/operators.py

Compiles `operators.cpp` with the C++ half of the runner against `libtorch/`, and measures all ways by turns in one run:
nanoseconds an operator, median of the rounds, with the least and the most. Tensors are small, so that the way to the
operator is nearly all that there is. `LIBTORCH` names another libtorch, `ATEN` another folder with `aten.cpp`.
"""

import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import torch

TOP = pathlib.Path(__file__).resolve().parent.parent
LIBTORCH = pathlib.Path(os.environ.get("LIBTORCH", TOP / "libtorch"))
ATEN = pathlib.Path(os.environ.get("ATEN", TOP / "src" / "runner" / "dispatcher"))
ROUNDS, REPEATS = 9, 300
LENGTH = 32


def built(folder):
    program = pathlib.Path(folder) / "operators"
    subprocess.run(["g++", "-std=c++17", "-O2", "-w", "-I", ATEN, "-isystem", LIBTORCH / "include",
                    TOP / "benches" / "operators.cpp", ATEN / "aten.cpp", "-o", program, "-L", LIBTORCH / "lib",
                    f"-Wl,-rpath,{LIBTORCH / 'lib'}", "-Wl,--no-as-needed", "-ltorch_cpu", "-lc10"], check=True)
    return program


def eager(x, y, repeats):
    for _ in range(repeats):
        value = x
        for _ in range(LENGTH):
            value = torch.mul(torch.relu(torch.add(value, y)), 0.5)


def measure_eager(records, repeats):
    x, y = torch.ones(16, requires_grad=records == "recorded"), torch.ones(16)
    eager(x, y, 10)
    begun = time.perf_counter()
    eager(x, y, repeats)
    return (time.perf_counter() - begun) * 1e9 / (repeats * LENGTH * 3)


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        peer = subprocess.Popen([built(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

        def ask(way, records):
            peer.stdin.write(f"{way} {records} {REPEATS}\n")
            return float(peer.stdout.readline())

        ways = ["cpp", "slots", "handles", "eager"]
        for records in ("plain", "recorded"):
            taken = {way: [] for way in ways}
            for turn in range(ROUNDS + 1):
                for way in ways if turn % 2 else ways[::-1]:
                    nanoseconds = measure_eager(records, REPEATS) if way == "eager" else ask(way, records)
                    if turn:
                        taken[way].append(nanoseconds)
            for way, each in taken.items():
                print(f"{records:9} {way:8} {statistics.median(each):7.0f} ns ({min(each):.0f} to {max(each):.0f})")
        peer.stdin.close()
        peer.wait()


if __name__ == "__main__":
    main()
