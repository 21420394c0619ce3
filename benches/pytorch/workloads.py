"""What is trained on both sides: data files, the sections of the spec, and the same model, data and
optimizer for a loop in PyTorch.

PyTorch is imported within functions, where it is needed: the bench itself runs without it, and the
time of a peer counts from its start.
"""

import dataclasses
import functools
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

TOP = pathlib.Path(__file__).resolve().parents[2]
DEVICE = os.environ.get("DEVICE") or "cpu"
"""`cpu`, or `cuda` for both sides."""
ON_GPU = DEVICE == "cuda"
SEED = 1
MEAN, STD = 0.1307, 0.3081
"""Of the pixels of MNIST."""


@dataclasses.dataclass
class Data:
    """A set as a loop has it in memory."""

    inputs: Any
    targets: Any
    prepare: Callable[[Any], Any] | None = None
    """Makes floats of a batch of bytes; None where the inputs are as the network takes them."""


@dataclasses.dataclass(frozen=True)
class Workload:
    """A model with its data and its recipe."""

    title: str
    write: Callable[[pathlib.Path], None]
    """Writes the files of the set into a folder."""
    read: Callable[[pathlib.Path], Data]
    """Reads them as a good loop in Python does."""
    module: Callable[[], Any]
    model: dict
    """The section of the spec for the same network."""
    data: dict
    batch: int
    optimizer: dict
    loss: str = "cross_entropy"
    every: int = 10
    """Steps from one reading of the loss to the next, on both sides."""
    lean: bool = False
    """The set holds bytes, which a loop can keep as they are, or make floats of beforehand."""
    bfloat16: bool = False
    """Computed under autocast."""
    channels_last: bool = False
    """Weights and images have their channels last in memory."""

    def training(self, exported: bool) -> dict:
        """The section of the spec that tells how it is trained, but for its length. On a GPU steps
        are captured, as far as GRAPHS=0 does not say otherwise."""
        ways = {"precision": "PRECISION_BFLOAT16"} if self.bfloat16 else {}
        if self.channels_last and not exported:
            ways["channels_last"] = True
        if ON_GPU and os.environ.get("GRAPHS") != "0":
            ways["cuda_graphs"] = True
        return {"batch_size": self.batch} | ways

    def spec(self, threads: int, steps: int = 1_000_000_000, every: int | None = None, exported: str | None = None) -> dict:
        """The request of a job. Without checkpoints but that of the end, which the loop in Python
        does not write either."""
        return {"seed": SEED, "model": self.model if exported is None else {"exported": {"path": exported}}, "data": self.data,
                "loss": {self.loss: {}}, "optimizer": self.optimizer, "training": {"max_steps": steps} | self.training(exported is not None),
                "checkpoint": {"every_epochs": 1_000_000}, "logging": {"scalar_every_steps": every or self.every},
                "resources": {"device": DEVICE, "cpu_threads": threads}}


# Digits: 64,000 grey images in IDX files, a multiple of each batch, so that all batches are whole.

DIGITS = 64_000


def write_digits(folder: pathlib.Path) -> None:
    import numpy

    draw = numpy.random.default_rng(SEED)
    images = draw.integers(0, 256, (DIGITS, 28, 28), numpy.uint8)
    labels = draw.integers(0, 10, DIGITS, numpy.uint8)
    for name, array, magic in (("images", images, 0x803), ("labels", labels, 0x801)):
        head = numpy.array([magic, *array.shape], ">u4").tobytes()
        (folder / name).write_bytes(head + array.tobytes())


def read_digits(folder: pathlib.Path) -> Data:
    import numpy
    import torch

    images = torch.from_numpy(numpy.fromfile(folder / "images", numpy.uint8, offset=16)).view(-1, 1, 28, 28)
    labels = torch.from_numpy(numpy.fromfile(folder / "labels", numpy.uint8, offset=8)).long()
    return Data(images, labels, functools.partial(normalized, mean=MEAN, std=STD))


def normalized(pixels: Any, mean: float, std: float) -> Any:
    """Floats of pixels, in as few passes as there can be."""
    return pixels.float().sub_(255 * mean).mul_(1 / (255 * std))


def models() -> Any:
    """The models that the tests hold against PyTorch."""
    sys.path.insert(0, str(TOP / "tests" / "pytorch"))
    import models
    return models


# A table: 102,400 rows of 30 numbers in Parquet, in four classes.

ROWS, COLUMNS, CLASSES = 102_400, 30, 4
HIDDEN = [256, 128]


def write_table(folder: pathlib.Path) -> None:
    import numpy
    import pyarrow
    import pyarrow.parquet

    draw = numpy.random.default_rng(SEED)
    columns = {f"x{number}": draw.normal(number, 1 + number, ROWS) for number in range(COLUMNS)}
    columns["kind"] = draw.integers(0, CLASSES, ROWS)
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "table.parquet")


def read_table(folder: pathlib.Path) -> Data:
    import numpy
    import pyarrow.parquet
    import torch

    table = pyarrow.parquet.read_table(folder / "table.parquet")
    values = torch.empty(table.num_rows, COLUMNS)
    for number in range(COLUMNS):
        values[:, number] = torch.from_numpy(table.column(f"x{number}").to_numpy())
    values = (values - values.mean(0)) / values.std(0, correction=0)
    return Data(values, torch.from_numpy(numpy.array(table.column("kind"))))


def make_mlp() -> Any:
    from torch import nn

    first, second = HIDDEN
    return nn.Sequential(nn.Linear(COLUMNS, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, CLASSES))


# Colour images: 6,400 of 32x32 in the binary form of CIFAR-10.

PICTURES, SIDE = 6_400, 32


def write_pictures(folder: pathlib.Path) -> None:
    import numpy

    rows = numpy.random.default_rng(SEED).integers(0, 256, (PICTURES, 1 + 3 * SIDE * SIDE), numpy.uint8)
    rows[:, 0] %= 10
    rows.tofile(folder / "pictures.bin")


def read_pictures(folder: pathlib.Path) -> Data:
    import numpy
    import torch

    rows = torch.from_numpy(numpy.fromfile(folder / "pictures.bin", numpy.uint8)).view(-1, 1 + 3 * SIDE * SIDE)
    pictures = rows[:, 1:].reshape(-1, 3, SIDE, SIDE)
    return Data(pictures, rows[:, 0].long(), functools.partial(normalized, mean=0.5, std=0.25))


def make_resnet18() -> Any:
    import torchvision
    from torch import nn

    module = torchvision.models.resnet18(num_classes=10)
    module.conv1, module.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return module


# Text: windows of 64 bytes, and for each byte the one that follows.

CONTEXT, WINDOWS = 64, 32_000


def write_text(folder: pathlib.Path) -> None:
    text = b"".join(file.read_bytes() for file in sorted((TOP / "proto").rglob("*.proto")))
    length = CONTEXT * WINDOWS + 1
    (folder / "text.txt").write_bytes((text * (length // len(text) + 1))[:length])


def read_text(folder: pathlib.Path) -> Data:
    import numpy
    import torch

    text = torch.from_numpy(numpy.fromfile(folder / "text.txt", numpy.uint8)).long()
    return Data(text[:-1].view(-1, CONTEXT), text[1:].view(-1, CONTEXT))


LAYERS, HEADS, WIDTH = 4, 4, 128

DIGIT_FILES = {"train": {"idx": {"images": "images", "labels": "labels"}}, "normalize": {"mean": [MEAN], "std": [STD]}}
SGD = {"sgd": {"learning_rate": 0.01, "momentum": 0.5}}
ADAMW = {"adamw": {"learning_rate": 0.001}}


def digits(title: str, batch: int, every: int) -> Workload:
    return Workload(title=title, write=write_digits, read=read_digits, module=lambda: models().Notebook(), model={"mnist_cnn": {}}, data=DIGIT_FILES,
                    batch=batch, optimizer=SGD, loss="nll", every=every, lean=True)


# Photographs: 2,048 colour images of 224x224 in NumPy arrays, on a GPU alone.

PHOTOGRAPHS, WIDE = 2_048, 224


def write_photographs(folder: pathlib.Path) -> None:
    import numpy

    draw = numpy.random.default_rng(SEED)
    numpy.save(folder / "photographs.npy", draw.integers(0, 256, (PHOTOGRAPHS, 3, WIDE, WIDE), numpy.uint8))
    numpy.save(folder / "kinds.npy", draw.integers(0, 1000, PHOTOGRAPHS))


def read_photographs(folder: pathlib.Path) -> Data:
    import numpy
    import torch

    photographs, kinds = (torch.from_numpy(numpy.load(folder / name)) for name in ("photographs.npy", "kinds.npy"))
    return Data(photographs, kinds, functools.partial(normalized, mean=0.5, std=0.25))


def make_resnet50() -> Any:
    import torchvision

    return torchvision.models.resnet50(num_classes=1000)


WORKLOADS = {
    "cnn64": digits("the notebook's CNN, batch 64", 64, 10),
    "cnn1000": digits("the notebook's CNN, batch 1000", 1000, 10),
    "mlp256": Workload(
        title=f"MLP {COLUMNS}-{'-'.join(map(str, HIDDEN))}-{CLASSES} on Parquet, batch 256", write=write_table, read=read_table, module=make_mlp,
        model={"mlp": {"hidden": HIDDEN}},
        data={"train": {"parquet": {"path": "table.parquet", "target": "kind", "target_type": "TARGET_TYPE_CLASSES"}}, "normalize": {"measure": True}},
        batch=256, optimizer=ADAMW),
    "resnet18": Workload(
        title="ResNet-18 on 32x32 images, batch 64", write=write_pictures, read=read_pictures, module=make_resnet18,
        model={"resnet": {"depth": 18, "stem": "STEM_SMALL"}},
        data={"train": {"cifar": {"paths": ["pictures.bin"]}}, "normalize": {"mean": [0.5] * 3, "std": [0.25] * 3}},
        batch=64, optimizer={"sgd": {"learning_rate": 0.01, "momentum": 0.9}}, every=2, lean=True),
    "gpt": Workload(
        title=f"GPT of {LAYERS} layers, width {WIDTH}, on {CONTEXT} bytes of text, batch 32", write=write_text, read=read_text,
        module=lambda: models().Gpt(words=256, width=WIDTH, heads=HEADS, layers=LAYERS, context=CONTEXT, dropout=0.0),
        model={"gpt": {"layers": LAYERS, "heads": HEADS, "width": WIDTH, "vocabulary": 256}},
        data={"train": {"text": {"path": "text.txt", "context": CONTEXT}}}, batch=32, optimizer=ADAMW),
}
if ON_GPU:
    WORKLOADS["resnet50"] = Workload(
        title="ResNet-50 on 224x224 images in bfloat16, channels last, batch 128", write=write_photographs, read=read_photographs, module=make_resnet50,
        model={"resnet": {"depth": 50, "stem": "STEM_IMAGENET", "outputs": 1000}},
        data={"train": {"npy": {"input": "photographs.npy", "target": "kinds.npy"}}, "normalize": {"mean": [0.5] * 3, "std": [0.25] * 3}},
        batch=128, optimizer={"sgd": {"learning_rate": 0.01, "momentum": 0.9}}, lean=True, bfloat16=True, channels_last=True)
EXPORTED = "-exported"
CASES = ["cnn64", "cnn1000", "mlp256", "resnet18", "gpt", *(name + EXPORTED for name in ("cnn64", "mlp256", "resnet18", "gpt")), *(["resnet50"] if ON_GPU else [])]
"""What a run measures: networks of torchd, and the same as archives of torch.export."""
