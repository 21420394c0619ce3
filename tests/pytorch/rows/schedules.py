"""The schedules, beside those of torch.optim.lr_scheduler that are stepped after each optimizer
step.

torchd computes a rate from the number of the step, where most of PyTorch's multiply the rate
before; the last bits of the 64 that differ are gone in the 32 of the weights.
"""

import torch
from torch.nn import functional as F
from torch.optim import lr_scheduler as torch_schedules

from . import Row, classes, sgd


def warmed(steps, make):
    """A schedule after a warm-up, which PyTorch makes of two."""
    def warmup(optimizer):
        return torch_schedules.LambdaLR(optimizer, lambda step: (step + 1) / steps)

    return lambda optimizer, total: torch_schedules.SequentialLR(
        optimizer, [warmup(optimizer), make(optimizer, total - steps)], milestones=[steps])


class Plateau:
    """ReduceLROnPlateau, stepped after each epoch by the loss over the data."""

    def __init__(self, optimizer, **settings):
        self.inner = torch_schedules.ReduceLROnPlateau(optimizer, **settings)
        self.module, self.steps = optimizer.module, 0

    def step(self):
        self.steps += 1
        if self.steps % 4 == 0:
            data = classes(28)
            self.module.eval()
            with torch.no_grad():
                self.inner.step(F.cross_entropy(self.module(data["x"]), data["y"]))
            self.module.train()


def sgd_with_module(module):
    optimizer = sgd(module)
    optimizer.module = module
    return optimizer


ROWS = {
    "constant": Row(spec="[schedule.constant]\nwarmup_steps = 5\n",
                    schedule=warmed(5, lambda optimizer, _: torch_schedules.LambdaLR(optimizer, lambda _: 1.0))),
    "cosine": Row(spec="[schedule.cosine]\nwarmup_steps = 4\nfinal_ratio = 0.1\n",
                  schedule=warmed(4, lambda optimizer, total: torch_schedules.CosineAnnealingLR(optimizer, total, eta_min=0.005))),
    "cosine restarts": Row(
        spec="[schedule.cosine]\nrestart_steps = 3\nrestart_growth = 2\n",
        schedule=lambda optimizer, _: torch_schedules.CosineAnnealingWarmRestarts(optimizer, T_0=3, T_mult=2)),
    "step": Row(spec="[schedule.step]\nevery_steps = 3\nfactor = 0.5\n",
                schedule=lambda optimizer, _: torch_schedules.StepLR(optimizer, 3, 0.5)),
    "step warmup": Row(spec="[schedule.step]\nwarmup_steps = 4\nevery_steps = 5\n",
                       schedule=warmed(4, lambda optimizer, _: torch_schedules.StepLR(optimizer, 5))),
    "multi_step": Row(spec="[schedule.multi_step]\nat_steps = [5, 6, 15]\nfactor = 0.3\n",
                      schedule=lambda optimizer, _: torch_schedules.MultiStepLR(optimizer, [5, 6, 15], 0.3)),
    "exponential": Row(spec="[schedule.exponential]\nwarmup_steps = 2\nfactor = 0.9\n",
                       schedule=warmed(2, lambda optimizer, _: torch_schedules.ExponentialLR(optimizer, 0.9))),
    "polynomial": Row(spec="[schedule.polynomial]\npower = 2\n",
                      schedule=lambda optimizer, total: torch_schedules.PolynomialLR(optimizer, total, 2.0)),
    "linear": Row(spec="[schedule.linear]\nfinal_ratio = 0.1\n",
                  schedule=lambda optimizer, total: torch_schedules.LinearLR(optimizer, 1.0, 0.1, total)),
    "one_cycle": Row(
        spec="[schedule.one_cycle]\n",
        schedule=lambda optimizer, total: torch_schedules.OneCycleLR(optimizer, 0.05, total, cycle_momentum=False)),
    "plateau": Row(
        spec="[schedule.plateau]\nfactor = 0.5\npatience_validations = 0\nthreshold = 0.1\n", made=sgd_with_module,
        schedule=lambda optimizer, _: Plateau(optimizer, factor=0.5, patience=0, threshold=0.1)),
}
