"""The optimizers, and the ways in which parameters are chosen."""

import torch

from . import Row

ADAMW = "[optimizer.adamw]\n"

ROWS = {
    "sgd": Row(),
    "sgd nesterov": Row(
        optimizer="[optimizer.sgd]\nlearning_rate = 0.05\nmomentum = 0.9\nnesterov = true\nweight_decay = 0.01\n",
        made=lambda module: torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01)),
    "adamw": Row(optimizer=ADAMW, made=lambda module: torch.optim.AdamW(module.parameters(), fused=True)),
    "groups": Row(
        optimizer=ADAMW + '[[optimizer.groups]]\nparameters = ["3.*"]\nrate_scale = 0.1\nweight_decay = 0\n',
        made=lambda module: torch.optim.AdamW(
            [{"params": module[0].parameters()}, {"params": module[3].parameters(), "lr": 0.0001, "weight_decay": 0}], fused=True)),
    "freeze": Row(
        optimizer='[optimizer]\nfreeze = ["0.*"]\n' + ADAMW,
        made=lambda module: torch.optim.AdamW(module[3].parameters(), fused=True)),
}
