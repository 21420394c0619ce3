"""The optimizers, and the ways in which parameters are chosen.

Those with `fused=True` are compared with that loop of PyTorch, since torchd calls the same
operator; the others with PyTorch's default loop.
"""

import torch

from . import Row

ADAMW = "[optimizer.adamw]\n"


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
    "groups": Row(
        optimizer=ADAMW + '[[optimizer.groups]]\nparameters = ["3.*"]\nrate_scale = 0.1\nweight_decay = 0\n',
        made=lambda module: torch.optim.AdamW(
            [{"params": module[0].parameters()}, {"params": module[3].parameters(), "lr": 0.0001, "weight_decay": 0}], fused=True)),
    "freeze": Row(
        optimizer='[optimizer]\nfreeze = ["0.*"]\n' + ADAMW,
        made=lambda module: torch.optim.AdamW(module[3].parameters(), fused=True)),
}
