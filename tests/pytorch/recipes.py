"""Trains with each row of the registries of a spec through the daemon and in PyTorch, from the
same weights on the same data, and prints how far apart they are, as a table in Markdown.

    .pytorch/bin/python tests/pytorch/recipes.py [ROW ...]

It fails where losses, weights, validation losses or metrics differ by more than a row allows. The
rows stand in `rows/`, a file for each registry; a name may be that of a file as well.
"""

import contextlib
import importlib
import inspect
import json
import pathlib
import statistics
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "python"), str(TOP / "tests" / "pytorch")]

import compare  # noqa: E402 (first: it sets the number of threads)
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

import reference  # noqa: E402

STEPS, EXAMPLES, BATCH, SEED = 20, 28, 8, 7
ROUNDING = 1e-6
"""Validation sums up in 64 bits and divides once, which is another rounding than PyTorch's mean: of
1, or of the value where that is larger."""
FILES = sorted(file.stem for file in (TOP / "tests" / "pytorch" / "rows").glob("[a-z]*.py"))


def plain(module, optimizer, x, y, loss):
    optimizer.zero_grad()
    value = loss(module(x), y)
    value.backward()
    optimizer.step()
    return value.item()


def eager(row, folder):
    """Trains in Python. The losses, milliseconds a step, validation by name."""
    torch.set_num_threads(1)
    module = row.module()
    module.load_state_dict(load_file(folder / "initial.safetensors"), strict=False)
    data = load_file(folder / "data.safetensors")
    if row.prepare:
        data["x"] = row.prepare(data["x"])
    optimizer = row.made(module)
    schedule = row.schedule(optimizer, STEPS) if row.schedule else None
    module.train()
    judged, losses, seconds = module, [], []
    order = reference.shuffled
    if row.weights:
        order = lambda count, seed, epoch: reference.drawn(row.weights(data).tolist(), seed, epoch)
    for step, places in reference.batches(EXAMPLES, BATCH, SEED, order):
        if step == STEPS:
            break
        start = time.perf_counter()
        x, y = data["x"][places], data["y"][places]
        if row.change:
            x, y = row.change(x, y, step)
        torch.manual_seed(reference.derive(SEED, 3, step))
        losses.append((row.step or plain)(module, optimizer, x, y, row.loss))
        if schedule:
            schedule.step()
        seconds.append(time.perf_counter() - start)
        judged = row.judge(module) if row.judge else module
    judged.eval()
    with torch.no_grad():
        outputs = judged(data["x"]) if row.validate is None else None
        loss = row.validate(judged, data["x"], data["y"]) if row.validate else row.loss(outputs, data["y"])
        validation = {"loss": loss.item()}
        validation |= {name: float(value(outputs, data["y"])) for name, value in row.metrics.items()}
    save_file(compare.state_of(judged), folder / "eager.safetensors")
    return losses, 1000 * statistics.median(seconds), validation


def spec(name, row):
    """The job, as a spec file in TOML."""
    metrics = f"metrics = {json.dumps(list(row.metrics))}\n" if row.metrics else ""
    sets = "".join(f'[data.{use}.safetensors]\npath = "{name}/data.safetensors"\n' for use in ("train", "validation"))
    model = row.model or f'[model.exported]\npath = "{name}/net.pt2"\n'
    return f"""display_name = "{name}"
seed = {SEED}
{metrics}{model.replace("FOLDER", name)}{sets}[training]
max_steps = {STEPS}
batch_size = {BATCH}
{row.training}
{row.optimizer}[warm_start]
file = "{name}/initial.safetensors"
[checkpoint]
every_epochs = 1000
[logging]
scalar_every_steps = 1
[resources]
device = "cpu"
cpu_threads = 1
{row.spec}"""


def export(row, folder):
    """Writes the archive of a row whose model is its module."""
    import torchd_export
    module = row.module()
    argument, = inspect.signature(module.forward).parameters
    torchd_export.export(module, {argument: row.data(4)["x"]}, folder / "net.pt2")


def compared(name, row, daemon, folder):
    """A line of the table, and whether the row is as close as it has to be."""
    name = name.replace(" ", "-").replace("/", "-")
    place = folder / "data" / name
    place.mkdir(parents=True)
    save_file(row.data(EXAMPLES), place / "data.safetensors")
    torch.manual_seed(SEED)
    module = row.module()
    save_file(compare.state_of(module), place / "initial.safetensors")
    if row.write:
        row.write(module, place)
    if row.model is None:
        compare.apart(export, row, place)
    losses, step, validation = compare.apart(eager, row, place)
    (place / "job.toml").write_text(spec(name, row))
    our_losses, our_step, _, weights = daemon.train(place / "job.toml")
    job = daemon.jobs()[0]["name"]
    ours = {tag: last(daemon, job, f"{tag}/validation") for tag in validation}
    apart = [compare.difference(our_losses, losses), compare.difference(weights, load_file(place / "eager.safetensors")),
             max(abs(ours[tag] - value) / max(1, abs(value)) for tag, value in validation.items())]
    if list(torch.load(daemon.state / job / "artifacts" / "model.pt")) != list(row.module().state_dict()):
        raise RuntimeError(f"model.pt has the names {list(torch.load(daemon.state / job / 'artifacts' / 'model.pt'))}, and state_dict() {list(row.module().state_dict())}")
    daemon.ctl("delete", job)
    allowed = [row.apart, row.apart, row.apart + ROUNDING]
    cells = " | ".join("0" if value == 0 else f"{value:.1e}" for value in apart)
    # NaN is close to nothing.
    return f"| {name} | {cells} | {step:.2f} | {our_step:.2f} | {row.rules} |", all(value <= most for value, most in zip(apart, allowed))


def last(daemon, job, tag):
    return float(json.loads(daemon.ctl("scalars", job, "--tag", tag, "-o", "json"))["points"][-1]["value"])


def main():
    files = {file: importlib.import_module(f"rows.{file}").ROWS for file in FILES}
    rows = {f"{file} {name}": row for file, known in files.items() for name, row in known.items()}
    wanted = sys.argv[1:] or list(files)
    chosen = {name: row for name, row in rows.items() if name in wanted or name.split()[0] in wanted}
    unknown = [name for name in wanted if name not in files and name not in rows]
    if unknown:
        sys.exit(f"recipes: no row is called {', '.join(unknown)}; there are {', '.join(rows)}")
    failed = []
    with tempfile.TemporaryDirectory(prefix="torchd-recipes-") as folder, contextlib.ExitStack() as stack:
        folder = pathlib.Path(folder)
        (folder / "data").mkdir()
        daemon = compare.Daemon(folder)
        stack.callback(daemon.stop)
        print(f"PyTorch {torch.__version__}, one thread, {STEPS} steps with batches of {BATCH}\n")
        print("| row | loss apart | weights apart | validation apart | eager ms a step | torchd ms a step | |")
        print("|---|---|---|---|---|---|---|", flush=True)
        for name, row in chosen.items():
            try:
                line, close = compared(name, row, daemon, folder)
                print(line, flush=True)
            except RuntimeError as error:
                close = False
                print(f"| {name} | failed | | | | | |\n", flush=True)
                print(f"{name}: {error}", file=sys.stderr, flush=True)
            if not close:
                failed.append(name)
    if failed:
        sys.exit(f"recipes: {len(failed)} of {len(chosen)} rows are not what PyTorch makes of them: {', '.join(failed)}")


if __name__ == "__main__":
    main()
