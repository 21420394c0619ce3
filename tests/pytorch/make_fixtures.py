"""Makes tests/data/exported/: archives of small models, data for them, and what PyTorch itself
makes of both.

    .pytorch/bin/python tests/pytorch/make_fixtures.py [FOLDER]

The README there tells what is in it. The same PyTorch on the same processor makes the same bytes.
"""

import copy
import io
import json
import os
import pathlib
import re
import shutil
import sys
import zipfile

# One thread, and before torch is imported: sums in another order are other numbers.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "python"), str(TOP / "tests" / "pytorch")]

import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import models  # noqa: E402
import reference  # noqa: E402
import torchd_export  # noqa: E402

SEED = 7
EXAMPLES, BATCH, STEPS = 28, 8, 20
OPTIMIZERS = {
    "sgd": lambda parameters, case: torch.optim.SGD(parameters, lr=case.rate, momentum=case.momentum),
    "adamw": lambda parameters, case: torch.optim.AdamW(parameters, lr=0.01, fused=True),
}


def plain_paths(text):
    """The text of a graph without this machine's paths, and with the user's line alone of each
    stack trace."""
    text = text.replace(str(TOP) + "/", "")

    def shorten(found):
        frames = re.split(r"(?=\n?\s*File \\\")", found.group(1))
        own = [frame for frame in frames if "site-packages" not in frame and "File" in frame]
        return '"stack_trace": "' + "".join(own).strip().removesuffix("\\n") + '"'

    return re.sub(r'"stack_trace": "((?:[^"\\]|\\.)*)"', shorten, text)


def rewrite(path, change):
    """Writes an archive anew, each entry through `change(name, content)`; one that becomes None
    is left out."""
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries:
            content = change(name, content)
            if content is not None:
                archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)


def without_machine(name, content):
    """For `rewrite`: what depends on the machine, and the pickles that torch.export.save adds,
    are left out."""
    if name.endswith(".json") and "/models/" in name:
        return plain_paths(content.decode()).encode()
    return b"" if "/sample_inputs/" in name else None if name.endswith("serialization_id") else content


def state_of(module):
    return {name: tensor.detach().clone().contiguous() for name, tensor in module.state_dict().items()}


def example(case, count=4):
    """Inputs for the helper, and its target."""
    inputs, target = reference.split(case.data(count), case.loss)
    return inputs, dict(loss=case.loss, target=target) if case.loss else {}


def build(case):
    torch.manual_seed(SEED)
    return case.make()


def archive(path, module, case):
    """What the helper writes of a module."""
    inputs, loss = example(case)
    torchd_export.export(module, inputs, path, **loss)
    rewrite(path, without_machine)


def make(folder, name, case, optimizers=("sgd",)):
    """An archive, its data, and what becomes of it in Python."""
    folder = folder / name
    folder.mkdir(parents=True)
    module = build(case)
    archive(folder / "net.pt2", module, case)
    data = case.data(EXAMPLES)
    save_file(data, folder / "data.safetensors")
    told = {
        "torch": torch.__version__.split("+")[0],
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "loss": case.loss,
        "seed": SEED, "batch_size": BATCH, "steps": STEPS,
        "runs": {},
    }
    for optimizer in optimizers:
        trained = copy.deepcopy(module)
        made = OPTIMIZERS[optimizer](trained.parameters(), case)
        run = reference.train(trained, data, case.loss, made, steps=STEPS, batch_size=BATCH, seed=SEED)
        after = state_of(trained)
        value, output = reference.evaluate(trained, data, case.loss)
        save_file({**{f"state.{key}": tensor for key, tensor in after.items()}, **({} if output is None else {"output": output.contiguous()})},
                  folder / f"{optimizer}.safetensors")
        kept = ("lr", "momentum", "betas", "eps", "weight_decay")
        told["runs"][optimizer] = {
            "arguments": {key: made.defaults[key] for key in kept if key in made.defaults},
            "losses": run.losses,
            "eval_loss": value,
        }
    (folder / "reference.json").write_text(json.dumps(told, indent=1) + "\n")


class Custom(torch.nn.Module):
    """A module with an operator that only its own Python registers."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 3)

    def forward(self, x):
        return torch.ops.mine.double(self.layer(x))


def bad(folder):
    """Archives that have to be refused."""
    folder.mkdir(parents=True)
    case = models.SMALL["mlp"]
    module = build(case)
    inputs, _ = example(case)
    batch = torch.export.Dim("batch", min=1)

    def save(name, module, train=True, dynamic={"x": {0: batch}}):
        program = torch.export.export(module.train(train), (inputs["x"],), dynamic_shapes=dynamic, strict=False)
        with open(folder / name, "wb") as file:
            saved = io.BytesIO()
            torch.export.save(program, saved)
            file.write(saved.getvalue())
        rewrite(folder / name, without_machine)

    def changed(name, change):
        shutil.copy(folder.parent / "mlp" / "net.pt2", folder / name)
        rewrite(folder / name, change)

    save("static_batch.pt2", module, dynamic=None)
    save("eval_as_train.pt2", module, train=False)
    library = torch.library.Library("mine", "DEF")
    library.define("double(Tensor x) -> Tensor")
    library.impl("double", lambda x: x * 2, "CompositeExplicitAutograd")
    save("custom_operator.pt2", Custom())

    changed("cuda.pt2", lambda _, content: content.replace(b'{"type": "cpu", "index": null}', b'{"type": "cuda", "index": 0}'))
    changed("nan_weights.pt2", lambda name, content: b"\x00\x00\xc0\x7f" + content[4:] if name.endswith("/weight_0") else content)

    def pickled(name, content):
        if name.endswith("/weight_0"):
            saved = io.BytesIO()
            torch.save(torch.zeros(16, 8), saved)
            return saved.getvalue()
        if name.endswith("weights_config.json"):
            config = json.loads(content)
            for entry in config["config"].values():
                entry["use_pickle"] = entry["path_name"] == "weight_0"
            return json.dumps(config).encode()
        return content

    changed("pickled_weight.pt2", pickled)


def plain(folder):
    """Two files as torch.export.save writes them, with its sample inputs."""
    folder.mkdir(parents=True)
    case = models.SMALL["mlp"]
    module = build(case)
    for mode in ("train", "eval"):
        program = torch.export.export(module.train(mode == "train"), (case.data(4)["x"],), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                                      strict=False)
        torch.export.save(program, folder / f"{mode}.pt2")
        rewrite(folder / f"{mode}.pt2",
                lambda name, content: content if "/sample_inputs/" in name or name.startswith("serialized_") and not name.endswith("program.json")
                else plain_paths(content.decode()).encode() if name == "serialized_exported_program.json" else without_machine(name, content))


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else TOP / "tests" / "data" / "exported"
    torch.set_num_threads(1)
    version = torch.__version__.split("+")[0]
    if version != "2.11.0":
        # Of another PyTorch there are files alone: its own loop gives other numbers than this one's.
        folder = folder / f"torch-{version}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        archive(folder / "cnn.pt2", build(models.SMALL["cnn"]), models.SMALL["cnn"])
        plain(folder / "plain")
        return
    for name in [*models.SMALL, "plain", "bad"]:
        shutil.rmtree(folder / name, ignore_errors=True)
    for name, case in models.SMALL.items():
        make(folder, name, case, ("sgd", "adamw") if name == "mlp" else ("sgd",))
    plain(folder / "plain")
    bad(folder / "bad")


if __name__ == "__main__":
    main()
