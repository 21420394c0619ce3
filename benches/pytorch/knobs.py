"""Which settings of a process change the numbers of a result: each model is trained for a few steps
with the same seed under each, and the tensors of the results are compared byte for byte."""

import contextlib
import os
import pathlib
import shlex

from . import sides
from .table import cores, head, note, row
from .workloads import WORKLOADS

STEPS = 20
SLOTS = 4
"""More threads than this are not tried."""
BASE = "as it is"

WRAPPER = """#!/bin/sh
# Runs the runner as the file beside it says.
. {knob}
exec $PREFIX {runner} "$@"
"""


def knobs():
    """The settings by name: threads of the job, variables of the runner, and a command before it."""
    threads = {f"{count} thread{'s' if count > 1 else ''}": (count, {}, "") for count in range(1, SLOTS + 1)}
    variables = {f"{name}={value}": (None, {name: value}, "") for name, value in (
        ("OMP_WAIT_POLICY", "PASSIVE"), ("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "0"), ("GOMP_SPINCOUNT", "1000"),
        ("OMP_PROC_BIND", "true"), ("MKL_CBWR", "AVX2"), ("MKL_CBWR", "COMPATIBLE"),
        # Memory comes from other places, and what has not been written is no zero.
        ("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_THRESHOLD_", "4096"), ("MALLOC_PERTURB_", "165"))}
    commands = {"on one core (taskset)": (None, {}, f"taskset -c {min(os.sched_getaffinity(0))}"), "nice 10": (None, {}, "nice -n 10")}
    return {BASE: (None, {}, ""), "as it is, again": (None, {}, ""), **threads, **variables, **commands}


def tensors(job):
    """The tensors of a result."""
    from torchd import tensor_file

    return tensor_file.read(pathlib.Path(job.message.directory) / "artifacts" / "model.safetensors")


def compared(ours, base):
    """In how many tensors two results differ, and by how much at most."""
    import numpy

    differ, largest = 0, 0.0
    for one, other in zip(ours, base, strict=True):
        if bytes(one.content) != bytes(other.content):
            differ += 1
            if one.dtype == "F32":
                apart = numpy.abs(numpy.frombuffer(one.content, "<f4") - numpy.frombuffer(other.content, "<f4"))
                largest = max(largest, float(apart.max()))
    return f"{differ} of {len(base)}, {largest:.1e}" if differ else "same"


def run(cases):
    """Prints a table of the knobs and the cases."""
    print(f"Results after {STEPS} steps, beside those of {cores()} threads with nothing set: in how many tensors they differ, and by how much at most.\n")
    print(head("", *(WORKLOADS[name].title for name in cases)), flush=True)
    with sides.temporary() as folder, contextlib.ExitStack() as stack:
        knob = folder / "knob"
        knob.write_text("")
        wrapper = folder / "runner"
        wrapper.write_text(WRAPPER.format(knob=shlex.quote(str(knob)), runner=shlex.quote(str((sides.PROGRAMS / "torchd-runner").resolve()))))
        wrapper.chmod(0o755)
        sets = {name: folder / name for name in cases}
        for name, place in sets.items():
            place.mkdir()
            WORKLOADS[name].write(place)
        settings = {"jobs.cpu_slots": max(SLOTS, cores()), "runner.path": str(wrapper)}
        clients = {name: stack.enter_context(sides.daemon(place, settings=settings)) for name, place in sets.items()}
        base = {}
        for told, (threads, variables, prefix) in knobs().items():
            note(told)
            knob.write_text(f"PREFIX={shlex.quote(prefix)}\n" + "".join(f"export {name}={value}\n" for name, value in variables.items()))
            cells = []
            for name, client in clients.items():
                job = client.submit(WORKLOADS[name].spec(threads or cores(), steps=STEPS)).wait(progress=False)
                result = tensors(job)
                cells.append(compared(result, base.setdefault(name, result)))
            print(row(told, *cells), flush=True)
