"""Makes tests/data/torchscript/: small TorchScript archives, good ones and some that have to fail.

    .pytorch/bin/python -W ignore tests/pytorch/make_scripts.py [FOLDER]
"""

import linecache
import pathlib
import sys
import zipfile

import torch
from safetensors.torch import save_file

TOP = pathlib.Path(__file__).resolve().parents[2]

SOURCE = '''
from typing import Dict, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Net(nn.Module):
    """BatchNorm, dropout, and one weight under two names."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 6)
        self.last.weight = self.first.weight
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(self.last(self.norm(self.first(x)).relu()), 0.25, self.training))

    @torch.jit.export
    def training_step(self, x: Tensor, y: Tensor) -> Tuple[Tensor, Dict[str, Tensor]]:
        scores = self.forward(x)
        return F.cross_entropy(scores, y), {"hits": (scores.argmax(1) == y).float().mean()}


class Breaks(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.mm(x, self.weight)


class Writes(Breaks):
    def forward(self, x: Tensor) -> Tensor:
        torch.save(x, "/tmp/torchd-torchscript-writes")
        return x @ torch.ones(6, 3) * self.weight.sum()


class Loops(Breaks):
    def forward(self, x: Tensor) -> Tensor:
        while x.numel() > 0:
            x = x + 1
        return x


class Swells(Breaks):
    def forward(self, x: Tensor) -> Tensor:
        kept = [torch.ones(1)]
        while len(kept) > 0:
            kept.append(torch.ones(1 << 26))
        return x


class Pair(Breaks):
    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        return x, x


class Flat(Breaks):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten()
'''


def modules():
    """The classes of SOURCE. Archives tell of the file `net.py`, wherever this one lies."""
    linecache.cache["net.py"] = (len(SOURCE), None, SOURCE.splitlines(keepends=True), "net.py")
    names = {"__name__": "net"}
    sys.modules["net"] = type(sys)("net")
    exec(compile(SOURCE, "net.py", "exec"), names)
    vars(sys.modules["net"]).update(names)
    return names


def save(module, path):
    """The entries of an archive that is the same on each machine: without the places of PyTorch's
    own sources."""
    torch.jit.script(module).save(str(path))
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    is_own = lambda name: not ("/code/__torch__/torch/" in name and name.endswith(".debug_pkl"))
    entries = [(name, content) for name, content in entries if is_own(name) and not name.endswith("serialization_id")]
    assert not any(b"site-packages" in content or str(TOP).encode() in content for _, content in entries), path
    return entries


def write(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else TOP / "tests" / "data" / "torchscript"
    folder.mkdir(parents=True, exist_ok=True)
    known = modules()
    torch.manual_seed(3)
    for name in ("Net", "Breaks", "Writes", "Loops", "Swells", "Pair", "Flat"):
        path = folder / f"{name.lower()}.pt"
        write(path, save(known[name](), path))
    entries = save(known["Breaks"](), folder / "newer.pt")
    write(folder / "newer.pt", [(name, b"99\n" if name.endswith("version") else content) for name, content in entries])
    torch.manual_seed(4)
    save_file({"x": torch.randn(28, 6), "y": torch.randint(0, 3, (28,))}, folder / "data.safetensors")


if __name__ == "__main__":
    main()
