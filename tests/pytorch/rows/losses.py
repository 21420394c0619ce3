"""The losses."""

import torch
from torch import nn
from torch.nn import functional as F

from . import Reader, Row, labels, numbers, perceptron, shares, tokens


def next_token(outputs, targets):
    """As the causal language models of Hugging Face."""
    outputs, targets = outputs[:, :-1, :].contiguous(), targets[:, 1:].contiguous()
    return F.cross_entropy(outputs.view(-1, outputs.size(-1)), targets.view(-1), ignore_index=3)


ROWS = {
    "cross_entropy": Row(
        spec="[loss.cross_entropy]\nlabel_smoothing = 0.1\nclass_weights = [1, 2, 3]\nignored_label = 1\n",
        loss=lambda outputs, targets: F.cross_entropy(outputs, targets, torch.tensor([1.0, 2.0, 3.0]), ignore_index=1, label_smoothing=0.1)),
    "nll": Row(spec="[loss.nll]\n", model=None, module=lambda: nn.Sequential(*perceptron(), nn.LogSoftmax(1)), loss=nn.NLLLoss()),
    "mse": Row(spec="[loss.mse]\n", data=numbers, module=lambda: perceptron(2), loss=nn.MSELoss()),
    "l1": Row(spec="[loss.l1]\n", data=numbers, module=lambda: perceptron(2), loss=nn.L1Loss()),
    "huber": Row(spec="[loss.huber]\ndelta = 0.5\n", data=numbers, module=lambda: perceptron(2), loss=nn.HuberLoss(delta=0.5)),
    "binary_cross_entropy": Row(
        spec="[loss.binary_cross_entropy]\n", data=labels,
        loss=lambda outputs, targets: F.binary_cross_entropy_with_logits(outputs, targets.float())),
    "binary_cross_entropy weights": Row(
        spec="[loss.binary_cross_entropy]\npositive_weights = [1, 2, 3]\n", data=labels,
        loss=lambda outputs, targets: F.binary_cross_entropy_with_logits(outputs, targets.float(), pos_weight=torch.tensor([1.0, 2.0, 3.0]))),
    "binary_cross_entropy one": Row(
        spec="[loss.binary_cross_entropy]\npositive_weights = [2]\n",
        data=lambda examples: {name: values if name == "x" else values[:, 0].contiguous() for name, values in labels(examples).items()},
        module=lambda: perceptron(1),
        loss=lambda outputs, targets: F.binary_cross_entropy_with_logits(outputs[:, 0], targets.float(), pos_weight=torch.tensor([2.0]))),
    "binary_cross_entropy shares": Row(
        spec="[loss.binary_cross_entropy]\n", data=shares, loss=nn.BCEWithLogitsLoss()),
    "kl_divergence": Row(
        spec="[loss.kl_divergence]\n", data=shares, model=None, module=lambda: nn.Sequential(*perceptron(), nn.LogSoftmax(1)),
        loss=nn.KLDivLoss(reduction="batchmean")),
    "next_token": Row(
        spec="[loss.next_token]\nignored_label = 3\n", data=tokens, model=None, module=Reader, loss=next_token,
        metrics={"perplexity": lambda outputs, targets: next_token(outputs.double(), targets).exp()}),
}

for row in ROWS.values():
    # The mean over the set is made of several batches, the last of them smaller.
    row.training = "validation_batch_size = 5\n"
