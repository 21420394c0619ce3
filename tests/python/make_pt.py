#!/usr/bin/env python3
"""Makes tests/data/golden/pt/: files that torch.save itself writes, and state_dict.json with the
values that state_dict.pt holds.

    python tests/python/make_pt.py tests/data/golden/pt

Run with PyTorch 2.11.0 (CPU or CUDA build: nothing here uses a GPU). The values are fixed; the zip
archives differ from run to run in an id that PyTorch puts into them.
"""
import collections
import json
import os
import sys

import torch

folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)


def save(name, value, **how):
    torch.save(value, os.path.join(folder, name), **how)


torch.manual_seed(0)
grid = torch.arange(24.0).reshape(4, 6)
tied = torch.randn(8, 4)
floats = torch.tensor([0.5, -1.0, 448.0, 0.0])

# Every type that has a name in both formats, and every way in which a tensor can lie in a storage.
values = collections.OrderedDict(
    f64=torch.randn(2, dtype=torch.float64),
    f32=torch.randn(3, 1, 2),
    f16=torch.randn(3).half(),
    bf16=torch.randn(3).bfloat16(),
    i64=torch.tensor(-7),
    i32=torch.tensor([1, -2], dtype=torch.int32),
    i16=torch.tensor([1, -2], dtype=torch.int16),
    i8=torch.tensor([-1], dtype=torch.int8),
    u8=torch.tensor([255], dtype=torch.uint8),
    u16=torch.tensor([65535], dtype=torch.uint16),
    u32=torch.tensor([2**32 - 1], dtype=torch.uint32),
    u64=torch.tensor([2**64 - 1], dtype=torch.uint64),
    bool=torch.tensor([True, False]),
    complex64=torch.randn(2, dtype=torch.complex64),
    f8_e4m3=floats.to(torch.float8_e4m3fn),
    f8_e5m2=floats.to(torch.float8_e5m2),
    view=grid[1:3, 2:5],
    transposed=grid.t(),
    column=grid[:, 3],
    expanded=torch.tensor([1.0, 2.0]).reshape(2, 1).expand(2, 3),
    tied_a=tied,
    tied_b=tied,
    tied_rows=tied[2:4],
    empty=torch.empty(0, 3),
    parameter=torch.nn.Parameter(torch.randn(2)),
)
values["dots.in.the.name"] = torch.ones(1)
values["zwölf"] = torch.ones(1)
values._metadata = collections.OrderedDict({"": {"version": 1}})
save("state_dict.pt", values)


def bytes_of(tensor):
    flat = tensor.detach().contiguous().reshape(-1)
    return b"" if flat.numel() == 0 else flat.view(torch.uint8).numpy().tobytes()


told = {
    name: {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape), "hex": bytes_of(tensor).hex()}
    for name, tensor in values.items()
}
with open(os.path.join(folder, "state_dict.json"), "w") as file:
    json.dump(told, file, indent=1, ensure_ascii=False)
    file.write("\n")


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)
        self.norm = torch.nn.BatchNorm1d(2)

    def forward(self, x):
        return self.norm(self.layer(x))


net = Net()
optimizer = torch.optim.AdamW(net.parameters())
net(torch.randn(4, 3)).sum().backward()
optimizer.step()
# Training scripts save a state dict among other things.
save(
    "checkpoint.pt",
    {
        "epoch": 3,
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "seed": 2**63 + 1,
        "loss": 0.25,
        "best": None,
        "is_last": True,
        "shape": net.layer.weight.shape,
        "args": {"learning_rate": 0.1, "names": ("a", "b"), "layers": [1, 2, 3]},
    },
)
save("two_state_dicts.pt", {"model": net.state_dict(), "state_dict": net.state_dict()})
save("two_networks.pt", {"generator": net.state_dict(), "critic": net.state_dict()})
save("tensor.pt", torch.arange(3.0))

# Files that are refused.
save("before_1_6.pt", net.state_dict(), _use_new_zipfile_serialization=False)
save("protocol_4.pt", net.state_dict(), pickle_protocol=4)
save("whole_module.pt", net)
save("sparse.pt", {"weight": torch.eye(3).to_sparse()})
save("conjugated.pt", {"weight": torch.randn(2, dtype=torch.complex64).conj()})
save("complex128.pt", {"weight": torch.randn(2, dtype=torch.complex128)})
torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 1), torch.randn(1, 2)), os.path.join(folder, "script.pt"))


class Code:
    """Runs `touch` where it is unpickled."""

    def __reduce__(self):
        return (os.system, ("touch /tmp/torchd-read-code-from-a-pickle",))


save("code.pt", {"weight": torch.ones(2), "other": Code()})
