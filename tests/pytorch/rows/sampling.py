"""The ways to draw training examples."""

import torch

from . import Row, classes


def weighed(examples):
    """Six numbers an example, in three classes, and a weight."""
    torch.manual_seed(18)
    return classes(examples) | {"w": torch.rand(examples).square() * (torch.rand(examples) > 0.2)}


def balanced(data):
    return 1 / torch.bincount(data["y"]).double()[data["y"]]


ROWS = {
    "weights": Row(data=weighed, spec='[data.sampling]\nweights = "w"\n', weights=lambda data: data["w"].double()),
    "balance_classes": Row(spec="[data.sampling]\nbalance_classes = true\n", weights=balanced),
}
