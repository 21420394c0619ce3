"""TorchScript modules."""

import warnings

import torch
from torch.nn import functional as F

import models

from . import Row

# It is deprecated, and that is known.
warnings.filterwarnings("ignore", category=DeprecationWarning)

MODEL = '[model.torchscript]\npath = "FOLDER/net.pt"\n'


def write(module, folder):
    torch.jit.script(module).save(str(folder / "net.pt"))


def row(case, loss=F.cross_entropy, **more):
    return Row(model=MODEL, module=case.make, data=case.data, loss=loss, write=write, **more)


class Step(torch.nn.Module):
    """A module with a loss and metrics of its own."""

    def __init__(self):
        super().__init__()
        self.net = models.Mlp(8, 12)

    def forward(self, x):
        return self.net(x)

    @torch.jit.export
    def training_step(self, x, y):
        scores = self.net(x)
        hits = (scores.argmax(1) == y).float().mean()
        return F.cross_entropy(scores, y, label_smoothing=0.1), {"hits": hits}


class Tied(torch.nn.Module):
    """One weight under two names."""

    def __init__(self):
        super().__init__()
        self.encode, self.decode = torch.nn.Linear(6, 6), torch.nn.Linear(6, 6)
        self.decode.weight = self.encode.weight

    def forward(self, x):
        return self.decode(self.encode(x).relu())[:, :3]


def words(examples):
    data = models.SMALL["lstm"].data(examples)
    return {"x": data["tokens"], "y": data["y"]}


def own(module, optimizer, x, y, loss):
    optimizer.zero_grad()
    value, _ = module.training_step(x, y)
    value.backward()
    optimizer.step()
    return value.item()


ROWS = {
    "mlp": row(models.SMALL["mlp"]),
    "cnn": row(models.SMALL["cnn"]),
    "notebook": row(models.ZOO["notebook"], loss=F.nll_loss, spec="[loss.nll]\n"),
    "lstm": Row(model=MODEL, module=models.SMALL["lstm"].make, data=words, write=write),
    "tied": Row(model=MODEL, module=Tied, write=write),
    "training_step": Row(model=MODEL + "training_step = true\n", module=Step, data=models.SMALL["mlp"].data, write=write, step=own,
                         validate=lambda module, x, y: module.training_step(x, y)[0]),
}
