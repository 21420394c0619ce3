#!/usr/bin/env python3
"""Loads tests/data/golden/pt/written.pt, which torchd has written, as users of PyTorch do.

    python tests/pytorch/load_pt.py tests/data/golden/pt/written.pt
"""
import sys

import torch

path = sys.argv[1]
assert torch.__version__.startswith("2."), torch.__version__
plain = torch.load(path)
mapped = torch.load(path, mmap=True)
full = torch.load(path, weights_only=False)

expected = {
    "embedding.weight": (torch.float32, [3, 2]),
    "norm.num_batches_tracked": (torch.int64, []),
    "head.weight": (torch.float32, [3, 2]),
    "f16": (torch.float16, [2, 0]),
    "bf16": (torch.bfloat16, [3]),
    "f64": (torch.float64, [1, 1, 1]),
    "truth": (torch.bool, [2]),
    "u8": (torch.uint8, [1]),
    "i8": (torch.int8, [1]),
    "i16": (torch.int16, [1]),
    "i32": (torch.int32, [1]),
    "u16": (torch.uint16, [2]),
    "c64": (torch.complex64, [2]),
    "f8": (torch.float8_e4m3fn, [4]),
    "zwölf": (torch.float32, [1]),
}
for loaded in (plain, mapped, full):
    assert type(loaded).__name__ == "OrderedDict", type(loaded)
    assert list(loaded) == list(expected), list(loaded)
    for name, (dtype, shape) in expected.items():
        tensor = loaded[name]
        assert (tensor.dtype, list(tensor.shape)) == (dtype, shape), (name, tensor.dtype, tensor.shape)
        assert tensor.is_contiguous() and not tensor.requires_grad, name
        if tensor.numel() > 0:
            found = bytes(tensor.reshape(-1).view(torch.uint8).numpy())
            unit = b"\1" if dtype == torch.bool else bytes(range(1, 9))
            assert found == (unit * len(found))[: len(found)], (name, found)
    storage = loaded["head.weight"].untyped_storage().data_ptr()
    assert storage == loaded["embedding.weight"].untyped_storage().data_ptr(), "tied weights share a storage"
    assert storage % 64 == 0 or loaded is not mapped, "what is mapped is aligned"

# A module takes it, with strict names.
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for name, (dtype, shape) in expected.items():
            if "." not in name:
                self.register_buffer(name, torch.zeros(shape, dtype=dtype))
        self.embedding = torch.nn.Embedding(3, 2)
        self.head = torch.nn.Linear(2, 3, bias=False)
        self.norm = torch.nn.Module()
        self.norm.register_buffer("num_batches_tracked", torch.tensor(0))


Net().load_state_dict(plain, strict=True)
print(f"{path}: {len(plain)} tensors, as PyTorch {torch.__version__} loads them")
