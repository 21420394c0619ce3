"""The ways of training."""

import torch
from torch.nn import functional as F

from . import Row

WEIGHTS = torch.tensor([1.0, 2.0, 3.0])


def weighted(outputs, targets):
    return F.cross_entropy(outputs, targets, WEIGHTS)


def accumulated(module, optimizer, x, y, loss):
    """Parts of two examples; the mean is that of the whole batch."""
    optimizer.zero_grad()
    whole = 0.0
    for part, targets in zip(x.split(2), y.split(2)):
        value = F.cross_entropy(module(part), targets, WEIGHTS, reduction="sum") / WEIGHTS[y].sum()
        value.backward()
        whole += value.detach()
    optimizer.step()
    return whole.item()


def autocast(module, optimizer, x, y, loss):
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(module(x), y)
    value.backward()
    optimizer.step()
    return value.item()


def clipped(module, optimizer, x, y, loss):
    optimizer.zero_grad()
    value = loss(module(x), y)
    value.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), 0.1)
    optimizer.step()
    return value.item()


class Averaged:
    """The moving average of a module."""

    def __init__(self, decay):
        self.decay, self.average = decay, None

    def __call__(self, module):
        swa = torch.optim.swa_utils
        if self.average is None:
            self.average = swa.AveragedModel(module, multi_avg_fn=swa.get_ema_multi_avg_fn(self.decay), use_buffers=True)
        self.average.update_parameters(module)
        return self.average.module


class Cast(torch.nn.Sequential):
    """Computes in bfloat16 also where it is evaluated."""

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x)


def cast():
    return Cast(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Dropout(0.25), torch.nn.Linear(16, 3))


class Mixed(torch.nn.Module):
    """Operators that autocast computes in bfloat16, in float, and in the wider type of their
    arguments."""

    def __init__(self):
        super().__init__()
        self.spread, self.norm, self.head = torch.nn.Linear(6, 32), torch.nn.LayerNorm(32), torch.nn.Linear(16, 3)
        self.mix = torch.nn.Conv1d(2, 2, 3, padding=1)

    def forward(self, x):
        parts = self.mix(self.norm(self.spread(x)).view(-1, 2, 16)).softmax(-1)
        return self.head(torch.bmm(parts, parts.transpose(1, 2)).sum(1, keepdim=True).mean(2) + F.gelu(parts[:, 0]) * parts[:, 1].exp())


def judged_in_bfloat16(module, x, y):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return F.cross_entropy(module(x).float(), y)


ROWS = {
    "accumulate_steps": Row(training="accumulate_steps = 4", spec="[loss.cross_entropy]\nclass_weights = [1, 2, 3]\n",
                            loss=weighted, step=accumulated),
    "bfloat16": Row(training='precision = "bfloat16"', module=cast, step=autocast,
                    loss=lambda outputs, targets: F.cross_entropy(outputs.float(), targets)),
    "bfloat16 exported": Row(training='precision = "bfloat16"', model=None, module=Mixed, step=autocast,
                             validate=judged_in_bfloat16, loss=lambda outputs, targets: F.cross_entropy(outputs.float(), targets)),
    "gradient_clip_norm": Row(training="gradient_clip_norm = 0.1", step=clipped),
    "ema_decay": Row(training="ema_decay = 0.9", judge=Averaged(0.9)),
}
