"""The metrics, over the whole validation set, against plain formulas in 64 bits."""

import itertools

import torch
from torch import nn
from torch.nn import functional as F

from . import Reader, Row, labels, numbers, perceptron, tokens


def decided(outputs, targets):
    """Classes of answers and targets, or for labels whether each holds."""
    if outputs.shape == targets.shape:
        return outputs > 0, targets > 0.5
    return outputs.argmax(1), targets


def counts(outputs, targets):
    """Right ones, answers and targets of each class, and those of classes that neither has left
    out; or of each label."""
    answers, targets = decided(outputs, targets)
    if targets.dtype == torch.bool:
        return [(int((a & t).sum()), int(a.sum()), int(t.sum())) for a, t in zip(answers.T, targets.T)]
    known = sorted({*answers.tolist(), *targets.tolist()})
    return [(int(((answers == c) & (targets == c)).sum()), int((answers == c).sum()), int((targets == c).sum())) for c in known]


QUALITIES = {
    "precision": lambda right, answers, targets: right / answers if answers else 0.0,
    "recall": lambda right, answers, targets: right / targets if targets else 0.0,
    "f1": lambda right, answers, targets: 2 * right / (answers + targets) if answers + targets else 0.0,
}


def mean_of(quality):
    def value(outputs, targets):
        each = [QUALITIES[quality](*count) for count in counts(outputs, targets)]
        return sum(each) / len(each)
    return value


def all_of(quality):
    return lambda outputs, targets: QUALITIES[quality](*(sum(column) for column in zip(*counts(outputs, targets))))


QUALITY_ROWS = {f"{quality}_{average}": make(quality) for quality in QUALITIES for average, make in (("macro", mean_of), ("micro", all_of))}


def auc(outputs, targets):
    """Every pair counted."""
    scores = outputs[:, 1].double() - outputs[:, 0].double() if outputs.dim() == 2 and outputs.size(1) == 2 else outputs.flatten()
    held, rest = scores[targets == 1], scores[targets == 0]
    pairs = [1.0 if one > other else 0.5 if one == other else 0.0 for one, other in itertools.product(held.tolist(), rest.tolist())]
    return sum(pairs) / len(pairs)


def r2(outputs, targets):
    outputs, targets = outputs.double(), targets.double()
    return (1 - ((targets - outputs) ** 2).sum(0) / ((targets - targets.mean(0)) ** 2).sum(0)).mean()


def two(examples):
    """Six numbers an example, in two classes."""
    torch.manual_seed(16)
    return {"x": torch.randn(examples, 6), "y": torch.randint(0, 2, (examples,))}


def many(examples):
    """Six numbers an example, in seven classes, one of which nothing has."""
    torch.manual_seed(17)
    y = torch.randint(0, 7, (examples,))
    y[y == 3] = 2
    y[0] = 6
    return {"x": torch.randn(examples, 6), "y": y}


def rounded(examples):
    """As `two`, and most examples there more than once, so that their scores are equal."""
    drawn = two(examples)
    drawn["x"] = (drawn["x"][:4]).repeat(examples // 4, 1).contiguous()
    return drawn


def top(k):
    return lambda outputs, targets: (outputs.topk(k).indices == targets[:, None]).any(1).double().mean()


BINARY = dict(spec="[loss.binary_cross_entropy]\n", loss=lambda outputs, targets: F.binary_cross_entropy_with_logits(outputs, targets.view(outputs.shape).float()))



def but(label, metrics):
    """Metrics over the targets that are not of that label."""
    return {name: lambda outputs, targets, value=value: value(outputs[targets != label], targets[targets != label]) for name, value in metrics.items()}


def flat(metrics):
    """Metrics over the places of all texts."""
    return {name: lambda outputs, targets, value=value: value(outputs.flatten(0, 1), targets.flatten()) for name, value in metrics.items()}


def perplexity(outputs, targets):
    return F.cross_entropy(outputs.double(), targets).exp()


OF_CLASSES = QUALITY_ROWS | {"accuracy": lambda outputs, targets: (outputs.argmax(1) == targets).double().mean(), "top_2": top(2), "perplexity": perplexity}

ROWS = {
    "accuracy": Row(metrics={"accuracy": lambda outputs, targets: (outputs.argmax(1) == targets).double().mean()}),
    "accuracy labels": Row(**BINARY, data=labels, metrics={"accuracy": lambda outputs, targets: ((outputs > 0) == (targets > 0)).double().mean()}),
    "top_k": Row(data=many, module=lambda: perceptron(7), metrics={"top_2": top(2), "top_5": top(5)}),
    "precision recall f1": Row(data=many, module=lambda: perceptron(7), metrics=QUALITY_ROWS),
    "precision recall f1 labels": Row(**BINARY, data=labels, metrics=QUALITY_ROWS),
    "auc": Row(data=two, module=lambda: perceptron(2), metrics={"auc": auc}),
    "auc label": Row(**BINARY, data=two, module=lambda: perceptron(1), metrics={"auc": auc}),
    "auc ties": Row(**BINARY, data=rounded, module=lambda: perceptron(1), metrics={"auc": auc}),
    "perplexity": Row(metrics={"perplexity": perplexity}),
    "ignored label": Row(
        spec="[loss.cross_entropy]\nignored_label = 2\n", data=many, module=lambda: perceptron(7), metrics=but(2, OF_CLASSES),
        loss=lambda outputs, targets: F.cross_entropy(outputs, targets, ignore_index=2)),
    "places": Row(data=tokens, model=None, module=Reader, metrics=flat(OF_CLASSES),
                  loss=lambda outputs, targets: F.cross_entropy(outputs.flatten(0, 1), targets.flatten())),
    "mae": Row(data=numbers, module=lambda: perceptron(2), loss=nn.MSELoss(),
               metrics={"mae": lambda outputs, targets: (outputs - targets).abs().double().mean()}),
    "rmse r2": Row(data=numbers, module=lambda: perceptron(2), loss=nn.MSELoss(),
                   metrics={"rmse": lambda outputs, targets: (outputs.double() - targets.double()).square().mean().sqrt(), "r2": r2}),
}

for name, row in ROWS.items():
    # Several batches, the last of them smaller; but for equal scores, which batches of other sizes
    # round in other ways.
    if name != "auc ties":
        row.training = "validation_batch_size = 5\n"
