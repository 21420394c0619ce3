"""The rows that `recipes.py` compares, a file for each registry of a spec."""

import dataclasses
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F


def classes(examples):
    """Six numbers an example, in three classes."""
    torch.manual_seed(11)
    return {"x": torch.randn(examples, 6), "y": torch.randint(0, 3, (examples,))}


def numbers(examples):
    """Six numbers an example, and two that follow from them."""
    torch.manual_seed(12)
    x = torch.randn(examples, 6)
    return {"x": x, "y": (x[:, :2] * x[:, 2:4]).contiguous()}


def labels(examples):
    """Six numbers an example, and three labels that hold or not."""
    torch.manual_seed(13)
    x = torch.randn(examples, 6)
    return {"x": x, "y": (x[:, :3] + x[:, 3:] > 0).long()}


def shares(examples):
    """Six numbers an example, and a distribution over three."""
    torch.manual_seed(14)
    return {"x": torch.randn(examples, 6), "y": torch.randn(examples, 3).softmax(1)}


def tokens(examples):
    """A text of 12 tokens an example, both as what is read and as what is to be foretold."""
    torch.manual_seed(15)
    x = torch.randint(0, 10, (examples, 12))
    return {"x": x, "y": x.clone()}


def perceptron(outputs=3):
    """The module of `MLP`."""
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.25), nn.Linear(16, outputs))


class Reader(nn.Module):
    """Scores of ten tokens at each of a text."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(torch.tanh(self.embed(x)))


MLP = "[model.mlp]\nhidden = [16]\ndropout = 0.25\n"
SGD = "[optimizer.sgd]\nlearning_rate = 0.05\nmomentum = 0.9\n"


def sgd(module):
    """The optimizer of `SGD`."""
    return torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)


@dataclasses.dataclass
class Row:
    """A recipe, as a spec and in PyTorch."""

    spec: str = ""
    """Sections of the spec in TOML besides those that have a default here."""
    model: str | None = MLP
    """None for the module itself, exported."""
    module: Callable = perceptron
    data: Callable = classes
    loss: Callable = F.cross_entropy
    """Of outputs and targets."""
    optimizer: str = SGD
    made: Callable = sgd
    """The optimizer of a module."""
    schedule: Callable | None = None
    """The torch.optim.lr_scheduler of an optimizer and the number of steps, stepped after each
    step."""
    training: str = ""
    """Lines of the section `training`."""
    metrics: dict = dataclasses.field(default_factory=dict)
    """Metrics of the spec by name: the value of outputs and targets of the whole validation set."""
    step: Callable | None = None
    """A step in place of the plain one: (module, optimizer, x, y, loss) -> the loss."""
    weights: Callable | None = None
    """The weight of each example by which it is drawn, of the arrays of the set."""
    prepare: Callable | None = None
    """What becomes of the inputs before anything else."""
    change: Callable | None = None
    """The examples of a training step in place of those of the set: (x, y, step) -> (x, y)."""
    judge: Callable | None = None
    """The module to validate and to keep, of the module that was trained; after each step."""
    write: Callable | None = None
    """Writes files of a model, of the module and the folder; `model` names them in FOLDER."""
    validate: Callable | None = None
    """The validation loss of the module, where that is not `loss` of its outputs: (module, x, y)."""
    apart: float = 0.0
    """The largest difference of losses, weights and validation that is right; a comment says why
    where it is not 0."""
    rules: str = ""
    """Where the difference comes from, for the table."""
