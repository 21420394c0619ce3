"""Trains models in Python's eager loop and through the daemon, and prints how far apart they are,
as a table in Markdown.

    .pytorch/bin/python tests/pytorch/compare.py [MODEL ...]

It fails if losses or weights of one differ, beyond what its case in `models.py` allows. Each model
is exported, trained in Python and trained by torchd in processes of their own, one after the other,
each on one thread. Without names all models of `models.ZOO` are compared. TORCHD_BIN is the folder
of the programs, else target/debug; STEPS the number of steps; EXPORT_WITH an interpreter with
another PyTorch that exports in place of this one.
"""

import contextlib
import json
import logging
import multiprocessing
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "python"), str(TOP / "tests" / "pytorch")]

import torch  # noqa: E402
import torchvision  # noqa: E402, F401 (before the processes fork)
from safetensors.torch import load_file, save_file  # noqa: E402

import models  # noqa: E402
import reference  # noqa: E402

PROGRAMS = pathlib.Path(os.environ.get("TORCHD_BIN", TOP / "target" / "debug"))
EXPORT_WITH = os.environ.get("EXPORT_WITH")
STEPS = int(os.environ.get("STEPS", "20"))
SEED, EXAMPLES, BATCH = 7, 28, 8
ADAMW = ("mlp", "gpt", "resnet18")
"""Those that are trained by AdamW as well."""
ADAMW_RATE = 0.001
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * PAGE


def apart(task, *arguments):
    """Runs `task` in a process of its own, so that neither its memory nor its imports count for
    another."""
    def run(pipe):
        try:
            pipe.send((task(*arguments), None))
        except Exception as error:
            pipe.send((None, f"{error}\n{traceback.format_exc(limit=-2)}"))

    mine, its = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=run, args=(its,))
    process.start()
    its.close()
    try:
        result, error = mine.recv()
    except EOFError:
        result, error = None, "its process died"
    process.join()
    if error:
        raise RuntimeError(f"{task.__name__}: {error}")
    return result


def build(case):
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    return case.make()


def state_of(module):
    return {name: tensor.detach().clone().contiguous() for name, tensor in module.state_dict().items()}


def prepare(case, folder):
    """Writes the data, and the weights to begin with, which another PyTorch might draw
    otherwise."""
    save_file(case.data(EXAMPLES), folder / "data.safetensors")
    save_file(state_of(build(case)), folder / "initial.safetensors")


def export(case, folder):
    """Writes the archive of a job; the seconds that the helper took."""
    import torchd_export
    warnings.simplefilter("ignore")
    # It tells that Triton is not there, which nothing here needs.
    logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)
    module = build(case)
    # load_state_dict of torchvision's MNASNet wants a version that safetensors does not keep.
    for name, tensor in load_file(folder / "initial.safetensors").items():
        module.state_dict()[name].copy_(tensor)
    inputs, target = reference.split(case.data(4), case.loss)
    loss = dict(loss=case.loss, target=target) if case.loss else {}
    start = time.perf_counter()
    torchd_export.export(module, inputs, folder / "net.pt2", **loss)
    return time.perf_counter() - start


def export_elsewhere(name, folder):
    """The same by the PyTorch of another interpreter."""
    said = subprocess.run([EXPORT_WITH, "-W", "ignore", __file__, "--export", name, folder], capture_output=True, text=True)
    if said.returncode != 0:
        raise RuntimeError(f"{EXPORT_WITH}: {said.stderr.strip()[-2000:]}")
    return float(said.stdout.splitlines()[-1])


def eager(case, optimizer, folder):
    """Trains in Python. The losses, milliseconds a step, and the resident memory after the last
    step."""
    module = build(case)
    parameters = module.parameters()
    made = (torch.optim.AdamW(parameters, lr=ADAMW_RATE, fused=True) if optimizer == "adamw"
            else torch.optim.SGD(parameters, lr=case.rate, momentum=case.momentum))
    run = reference.train(module, load_file(folder / "data.safetensors"), case.loss, made, steps=STEPS, batch_size=BATCH, seed=SEED)
    memory = resident_bytes()
    save_file(state_of(module), folder / "eager.safetensors")
    full = [seconds for step, seconds in enumerate(run.seconds) if (step + 1) % 4]
    return run.losses, 1000 * statistics.median(full), memory


def spec(name, case, optimizer):
    """The job, as a spec file in TOML. Without checkpoints, which Python's loop does not write
    either: a thread that writes them takes time from the steps."""
    recipe = (f"[optimizer.adamw]\nlearning_rate = {ADAMW_RATE}" if optimizer == "adamw"
              else f"[optimizer.sgd]\nlearning_rate = {case.rate}\nmomentum = {case.momentum}")
    loss = f"\n[loss.{case.loss}]\n" if case.loss else ""
    return f"""display_name = "{name}"
seed = {SEED}
[model.exported]
path = "{name}/net.pt2"
[data.train.safetensors]
path = "{name}/data.safetensors"
{loss}
[training]
max_steps = {STEPS}
batch_size = {BATCH}
{recipe}
[checkpoint]
every_epochs = 1000
[logging]
scalar_every_steps = 1
[resources]
device = "cpu"
cpu_threads = 1
"""


class Daemon:
    """torchd on free ports, with a state folder that goes with it."""

    def __init__(self, folder):
        self.state = folder / "state"
        ready = folder / "ready.json"
        self.log = open(folder / "torchd.log", "wb")
        self.process = subprocess.Popen(
            [PROGRAMS / "torchd", "--config", os.devnull, "--state-dir", self.state, "--data-root", folder / "data",
             "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--ready-file", ready],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        while not ready.exists():
            if self.process.poll() is not None:
                sys.exit(f"torchd ended with {self.process.returncode}:\n{(folder / 'torchd.log').read_text()}")
            time.sleep(0.02)
        self.environment = {**os.environ, "TORCHD_SERVER": f"unix:{json.loads(ready.read_text())['unix']}", "NO_COLOR": "1"}

    def ctl(self, *arguments):
        """What a command of torchctl says; for a job's end its output as well."""
        said = subprocess.run([PROGRAMS / "torchctl", *arguments], env=self.environment, capture_output=True, text=True)
        if said.returncode != 0:
            raise RuntimeError(f"torchctl {' '.join(map(str, arguments))}: {said.stderr.strip() or said.stdout.strip()[-2000:]}")
        return said.stdout

    def wait(self, job):
        """Waits until a job succeeds. One that pauses would wait for somebody to resume it."""
        with subprocess.Popen([PROGRAMS / "torchctl", "watch", job, "-o", "json"], env=self.environment, stdout=subprocess.PIPE, text=True) as watching:
            for line in watching.stdout:
                for event in json.loads(line).get("events", []):
                    state = event.get("snapshot", {}).get("state")
                    if state == "JOB_STATE_PAUSED":
                        watching.terminate()
        found = json.loads(self.ctl("show", job, "-o", "json"))
        if found["state"] != "JOB_STATE_SUCCEEDED":
            end = found.get("end") or found.get("last_attempt_end") or {}
            raise RuntimeError(f"{job} is {found['state']}: {end.get('message')}")

    def train(self, file):
        """Trains a job to its end. The losses, milliseconds a step, the resident memory after
        the last step, the weights."""
        job = json.loads(self.ctl("submit", file, "-o", "json"))["name"]
        self.wait(job)

        def scalars(tag):
            points = json.loads(self.ctl("scalars", job, "--tag", tag, "-o", "json"))["points"]
            return [float(point["value"]) for point in points]

        throughput = scalars("throughput/examples_per_second")
        full = [BATCH / speed for step, speed in enumerate(throughput) if (step + 1) % 4]
        weights = self.state / job / "artifacts" / "model.safetensors"
        return scalars("loss/train"), 1000 * statistics.median(full), scalars("process/rss_bytes")[-1], load_file(weights)

    def jobs(self):
        return json.loads(self.ctl("jobs", "-o", "json"))["jobs"]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.log.close()


def difference(ours, theirs):
    """The largest difference of two lists of numbers or dictionaries of tensors; infinite if
    they do not have the same names."""
    if isinstance(ours, dict):
        if set(ours) != set(theirs):
            return float("inf")
        pairs = ((ours[name].double(), theirs[name].double()) for name in ours if ours[name].numel())
        return max(((a - b).abs().max().item() for a, b in pairs), default=0.0)
    return max(abs(a - b) for a, b in zip(ours, theirs)) if len(ours) == len(theirs) else float("inf")


def compare(name, case, optimizer, daemon, folder):
    """A row of the table, and whether the model is as close as it has to be."""
    place = folder / "data" / name
    place.mkdir(parents=True, exist_ok=True)
    apart(prepare, case, place)
    seconds = export_elsewhere(name, place) if EXPORT_WITH else apart(export, case, place)
    losses, step, memory = apart(eager, case, optimizer, place)
    (place / "job.toml").write_text(spec(name, case, optimizer))
    our_losses, our_step, our_memory, weights = daemon.train(place / "job.toml")
    # All jobs together would leave enough to fill a small disk.
    daemon.ctl("delete", daemon.jobs()[0]["name"])
    loss, weight = difference(our_losses, losses), difference(weights, load_file(place / "eager.safetensors"))
    size = (place / "net.pt2").stat().st_size
    for file in (*place.iterdir(),):
        file.unlink()
    row = (f"| {name}{', AdamW' if optimizer == 'adamw' else ''} | {loss:.1e} | {weight:.1e} | {step:.1f} | {our_step:.1f} | {memory / 1e6:.0f} | {our_memory / 1e6:.0f} | {seconds:.1f} | {size / 1e6:.2f} |"
           .replace("0.0e+00", "0"))
    return row, max(loss, weight) <= case.apart


def main():
    if sys.argv[1:2] == ["--export"]:
        print(export(models.ZOO[sys.argv[2]], pathlib.Path(sys.argv[3])))
        return
    names = sys.argv[1:] or list(models.ZOO)
    unknown = [name for name in names if name not in models.ZOO]
    if unknown:
        sys.exit(f"compare: no model is called {', '.join(unknown)}; there are {', '.join(models.ZOO)}")
    failed = []
    with tempfile.TemporaryDirectory(prefix="torchd-compare-") as folder, contextlib.ExitStack() as stack:
        folder = pathlib.Path(folder)
        (folder / "data").mkdir()
        daemon = Daemon(folder)
        stack.callback(daemon.stop)
        print(f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, one thread, {STEPS} steps of SGD where nothing else is said, with batches of {BATCH}\n")
        print("| model | loss apart | weights apart | eager ms a step | torchd ms a step | eager MB | torchd MB | export s | file MB |")
        print("|---|---|---|---|---|---|---|---|---|", flush=True)
        jobs = [(name, "sgd") for name in names] + [(name, "adamw") for name in names if name in ADAMW]
        for name, optimizer in jobs:
            try:
                row, close = compare(name, models.ZOO[name], optimizer, daemon, folder)
                print(row, flush=True)
            except RuntimeError as error:
                close = False
                print(f"| {name} | failed | | | | | | | |\n", flush=True)
                print(f"{name}: {error}", file=sys.stderr, flush=True)
            if not close:
                failed.append(name)
    if failed:
        sys.exit(f"compare: {len(failed)} of {len(jobs)} trainings are not what PyTorch makes of them: {', '.join(failed)}")


if __name__ == "__main__":
    main()
