"""The optimizers, and the ways in which parameters are chosen.

Those with `fused=True` are compared with that loop of PyTorch, since torchd calls the same
operator; the others with PyTorch's default loop.
"""

import torch

from . import Row

ADAMW = "[optimizer.adamw]\n"


class Lion(torch.optim.Optimizer):
    """Algorithm 2 of Chen et al. 2023, which torch.optim has not."""

    def __init__(self, parameters, lr, beta1=0.9, beta2=0.99, weight_decay=0.0):
        super().__init__(parameters, dict(lr=lr, beta1=beta1, beta2=beta2, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            lr, beta1, beta2, decay = (group[name] for name in ("lr", "beta1", "beta2", "weight_decay"))
            for weight in group["params"]:
                mean = self.state[weight].setdefault("exp_avg", torch.zeros_like(weight))
                weight.mul_(1 - lr * decay)
                weight.add_((mean * beta1).add_(weight.grad, alpha=1 - beta1).sign_(), alpha=-lr)
                mean.mul_(beta2).add_(weight.grad, alpha=1 - beta2)


def made(kind, **settings):
    """The optimizer of a module."""
    return lambda module: kind(module.parameters(), **settings)


ROWS = {
    "sgd": Row(),
    "sgd nesterov": Row(
        optimizer="[optimizer.sgd]\nlearning_rate = 0.05\nmomentum = 0.9\nnesterov = true\nweight_decay = 0.01\n",
        made=made(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01)),
    "adamw": Row(optimizer=ADAMW, made=made(torch.optim.AdamW, fused=True)),
    "adamw amsgrad": Row(
        optimizer=ADAMW + "amsgrad = true\nbeta2 = 0.9\n",
        made=made(torch.optim.AdamW, betas=(0.9, 0.9), amsgrad=True, fused=True)),
    "adam": Row(
        optimizer="[optimizer.adam]\nlearning_rate = 0.01\nweight_decay = 0.1\n",
        made=made(torch.optim.Adam, lr=0.01, weight_decay=0.1, fused=True)),
    "adam amsgrad": Row(
        optimizer="[optimizer.adam]\namsgrad = true\nbeta2 = 0.9\n",
        made=made(torch.optim.Adam, betas=(0.9, 0.9), amsgrad=True, fused=True)),
    "rmsprop": Row(optimizer="[optimizer.rmsprop]\n", made=made(torch.optim.RMSprop)),
    "rmsprop centered": Row(
        optimizer="[optimizer.rmsprop]\nalpha = 0.9\nweight_decay = 0.1\nmomentum = 0.9\ncentered = true\n",
        made=made(torch.optim.RMSprop, alpha=0.9, weight_decay=0.1, momentum=0.9, centered=True)),
    "adagrad": Row(
        optimizer="[optimizer.adagrad]\nlr_decay = 0.1\ninitial_accumulator_value = 0.1\nweight_decay = 0.1\n",
        made=made(torch.optim.Adagrad, lr_decay=0.1, initial_accumulator_value=0.1, weight_decay=0.1, fused=True)),
    "lion": Row(
        optimizer="[optimizer.lion]\nlearning_rate = 0.001\nweight_decay = 0.1\n",
        made=made(Lion, lr=0.001, weight_decay=0.1), rules="torch.optim has none: plain torch after the paper"),
    "groups": Row(
        optimizer=ADAMW + '[[optimizer.groups]]\nparameters = ["3.*"]\nrate_scale = 0.1\nweight_decay = 0\n',
        made=lambda module: torch.optim.AdamW(
            [{"params": module[0].parameters()}, {"params": module[3].parameters(), "lr": 0.0001, "weight_decay": 0}], fused=True)),
    "groups lion": Row(
        optimizer='[optimizer.lion]\n[[optimizer.groups]]\nparameters = ["3.*"]\nrate_scale = 10\nweight_decay = 0.1\n',
        made=lambda module: Lion([{"params": module[0].parameters()}, {"params": module[3].parameters(), "lr": 0.001, "weight_decay": 0.1}], lr=0.0001)),
    "freeze": Row(
        optimizer='[optimizer]\nfreeze = ["0.*"]\n' + ADAMW,
        made=lambda module: torch.optim.AdamW(module[3].parameters(), fused=True)),
}
