# SPDX-License-Identifier: Apache-2.0
"""Writes a PyTorch model as one file that torchd trains without Python.

    import torch, torchd_export
    torchd_export.export(model, torch.randn(8, 3, 32, 32), "net.pt2")

The file is an archive of `torch.export` with two graphs, `train` and `eval`, made of the module in
training and in evaluation mode. It holds graphs, weights and buffers; it holds no pickle, no code,
and no part of the example: inputs are drawn anew, at random, in the example's shapes and ranges.

Before it writes, `export` holds graphs and module against each other: outputs, buffers, gradients,
other sizes of the batch. `torch.export` drops the backward of a custom `autograd.Function`, and
hooks on gradients, without a word; such a model is refused here, with the names of the parameters
whose gradients differ.

Needs Python 3.9 and PyTorch 2.7, or newer, and nothing else; 2.7 itself exports no LSTM for batches
of any size. All errors about the model are `ExportError`s.

The archive
-----------
It is a zip with stored entries below one folder, as `torch.export.save` of PyTorch 2.8 and newer
writes it, also where an older PyTorch exports. `models/NAME.json`,
`data/weights/NAME_weights_config.json` and `data/constants/NAME_constants_config.json` exist for
both names, `train` and `eval`; both lists of weights name the same files.
`data/sample_inputs/NAME.pt` is empty.

Two things are torchd's own. `extra/torchd.json` tells of one seeded step in Python, so that a
runtime can repeat it before it trains; `data/torchd/` holds the inputs of that step, raw,
contiguous and little-endian:

    {
      "format": 1,
      "torch": "2.11.0",                      the PyTorch that computed the numbers
      "seed": 0,
      "inputs": [{"name": "x", "dtype": "float32", "shape": [4, 20], "path": "data/torchd/x"}],
      "loss": "mean_square",                  or "output", "cross_entropy", "nll", "mse"
      "target": null,                         or as an input, where the loss has one
      "train": {"loss": 1.25, "gradient_norm": 0.5},
      "eval": {"loss": 1.5}
    }

`inputs` stand in the order of the graph, by the names that the graph gives them. The numbers come
about so, on the CPU, with the weights and buffers of the archive: `torch.manual_seed(seed)`, the
eval graph, its loss; then `torch.manual_seed(seed)`, the train graph, its loss, and the square root
of the sum of the squares of all gradients (a tied parameter counts once, one without a gradient
does not). The loss is made of the first output: `output` is that output itself, `mean_square` the
mean of its squares in float32, the others are those of `torch.nn.functional` (`nll` is `nll_loss`,
`mse` is `mse_loss`) with the target and their defaults. Scores of classes may have the classes last,
`[batch, ..., classes]` for a target of `[batch, ...]`, where PyTorch alone would have them in
dimension 1: they are moved there first. Where a shape can be read both ways, it is dimension 1.
"""

import contextlib
import copy
import ctypes
import dataclasses
import hashlib
import inspect
import io
import json
import logging
import math
import os
import re
import sys
import tempfile
import traceback
import warnings
import zipfile

import torch
from torch.utils import _pytree as pytree

__all__ = ["ExportError", "export"]

FORMAT = 1
MODES = ("train", "eval")
SAMPLES = 4
"""Examples in the batch of the seeded step, where the example has as many."""
TOLERANCE = 1e-4
"""How far graph and module may be apart, relative to the norm of a tensor. On one thread they
are equal."""


def classes_second(scores, target):
    """Scores with their classes in dimension 1, from there or from the last dimension."""
    within, of_target = scores.shape[1:], target.shape[1:]
    return scores.movedim(-1, 1) if within[1:] != of_target and within[:-1] == of_target else scores


LOSSES = {
    "cross_entropy": lambda scores, target: torch.nn.functional.cross_entropy(classes_second(scores, target), target),
    "nll": lambda scores, target: torch.nn.functional.nll_loss(classes_second(scores, target), target),
    "mse": torch.nn.functional.mse_loss,
}

DTYPES = {
    torch.uint8: 1, torch.int8: 2, torch.int16: 3, torch.int32: 4, torch.int64: 5,
    torch.float16: 6, torch.float32: 7, torch.float64: 8, torch.bool: 12, torch.bfloat16: 13,
}
"""The numbers of the archive's schema (ScalarType in torch/_export/serde/schema.py)."""


TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
PYTHON = os.path.dirname(os.path.abspath(os.__file__)) + os.sep


class ExportError(ValueError):
    """A model, or an example, of which no archive can be made; the message says why and what
    helps."""


def export(model, example, path, *, dynamic=None, loss=None, target=None, sample=None, seed=0):
    """Writes `model` to `path` (a name that ends in `.pt2`) and returns what `extra/torchd.json`
    says.

    model    a `torch.nn.Module` on the CPU. It is copied and not changed.
    example  its inputs for one batch: a tensor, a tuple of tensors, or a dictionary of keyword
             arguments. Only dtypes, shapes and ranges are used. The first dimension of every input
             is the batch.
    dynamic  further dimensions that differ from batch to batch, by the name of the input:
             `{"tokens": {1: torch.export.Dim("length", min=2, max=512)}}`.
    loss     of the seeded step: "cross_entropy", "nll" or "mse" with a `target` for the example.
             Scores of classes are `[batch, classes, ...]` or `[batch, ..., classes]`.
             Without it, the model's own loss where the first output is one
             (`forward(x, y) -> loss`, or a tuple that begins with it), else the mean of the squares
             of the first output.
    sample   inputs of the seeded step, in the form of `example`, where random ones do not do
             (sorted lengths, say). They are stored in the file, with the target, which then belongs
             to them.
    seed     of that step.
    """
    # PyTorch warns of what it leaves out; here it is compared instead. The user's random numbers
    # go on as if nothing had been drawn.
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        return make(model, example, path, dynamic, loss, target, sample, seed)


def make(model, example, path, dynamic, loss, target, sample, seed):
    path = check_path(path)
    check_model(model)
    inputs = Inputs(model, example)
    if loss is not None and loss not in LOSSES:
        raise ExportError(f"loss is {loss!r}; it can be {', '.join(map(repr, LOSSES))}, or be left out")
    if (loss is None) != (target is None):
        raise ExportError("loss and target belong together: one of them is missing")
    if sample is not None:
        inputs = inputs.special_ones(Inputs(model, sample, "sample"))
    drawn = inputs.draw(inputs.samples, seed)
    if target is not None:
        check_tensor(target, "target")
        if target.dim() == 0 or target.shape[0] != inputs.batch:
            raise ExportError(f"the target has shape {list(target.shape)}; its first dimension has to be that of the inputs, {inputs.batch}")
        target = target.detach().clone() if inputs.special else draw(target.detach(), drawn.batch, torch.Generator().manual_seed(seed + 1))

    try_sizes(model, inputs, seed)
    steps = {mode: step(duplicate(model, mode), drawn, loss, target, seed, mode) for mode in MODES}
    programs = {mode: trace(duplicate(model, mode), drawn, dynamic, mode) for mode in MODES}
    compare(programs, model, drawn, steps, loss, target, seed)

    told = {
        "format": FORMAT,
        "torch": torch.__version__.split("+")[0],
        "seed": seed,
        "inputs": [describe(name, tensor) for name, tensor in zip(programs["train"].graph_signature.user_inputs, drawn.flat())],
        "loss": steps["train"].kind,
        "target": None if target is None else describe("target", target),
        "train": {"loss": steps["train"].loss, "gradient_norm": steps["train"].gradient_norm},
        "eval": {"loss": steps["eval"].loss},
    }
    raw = {entry["path"]: tensor for entry, tensor in zip(told["inputs"], drawn.flat())}
    if target is not None:
        raw[told["target"]["path"]] = target
    write(path, programs, told, raw)
    return told


def check_path(path):
    """The name of the file as text, before anything is computed for it."""
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise ExportError(f"the path is {kind(path)}; the name of a file is needed. The order is export(model, example, path)")
    path = os.fspath(path)
    if not path.endswith(".pt2"):
        raise ExportError(f"the file is called {path!r}; its name has to end in .pt2")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise ExportError(f"the folder {folder!r} for {os.path.basename(path)!r} does not exist; make it first, or name another")
    return path


def check_model(model):
    """Refuses what is not a module of parameters on the CPU, before anything is computed."""
    if not isinstance(model, torch.nn.Module):
        raise ExportError(f"the model is {kind(model)}; a torch.nn.Module is needed (wrap a function into a module's forward)")
    if isinstance(model, (torch.jit.ScriptModule, torch.fx.GraphModule)):
        raise ExportError(f"the model is {kind(model)}; give the module that it was made of")
    if hasattr(model, "_orig_mod"):
        raise ExportError("the model comes from torch.compile; give the module inside: export(model._orig_mod, ...)")
    if isinstance(model, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
        raise ExportError(f"the model is wrapped in {type(model).__name__}; give the module inside: export(model.module, ...)")
    parameters = dict(model.named_parameters())
    if not parameters:
        raise ExportError("the model has no parameters: there is nothing to train")
    tensors = {**parameters, **dict(model.named_buffers())}
    lazy = [name for name, tensor in tensors.items() if torch.nn.parameter.is_lazy(tensor)]
    if lazy:
        raise ExportError(f"{some(lazy)} of the model has no shape yet; run the model once on the example first")
    elsewhere = sorted({str(tensor.device) for tensor in tensors.values() if tensor.device.type != "cpu"})
    if elsewhere:
        raise ExportError(f"the model is on {', '.join(elsewhere)}; torchd chooses the device itself: export(model.cpu(), ...)")
    odd = [f"{name} ({tensor.dtype})" for name, tensor in tensors.items() if tensor.dtype not in DTYPES]
    if odd:
        raise ExportError(f"{some(odd)}: dtypes of this kind are not trained; real numbers, integers and booleans are")
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ExportError("no parameter of the model has requires_grad: there is nothing to train")
    # A copy of the module has none of them, so that a comparison would not tell.
    hooked = [name for name, parameter in parameters.items() if parameter._backward_hooks or parameter._post_accumulate_grad_hooks]
    if hooked:
        raise ExportError(f"the gradient hooks of {some(hooked)} are not exported: the job would train without them. Remove them, or change the value "
                          "in forward instead")
    broken = [name for name, tensor in tensors.items() if tensor.is_floating_point() and bool(tensor.isnan().any())]
    broken += [name for name, tensor in parameters.items() if bool(tensor.detach().isinf().any())]
    if broken:
        raise ExportError(f"{some(broken)} of the model has values that are not finite; nothing can be trained from them")


class Inputs:
    """Arguments of a model's forward: tensors by position, and tensors by name."""

    def __init__(self, model, example, what="example"):
        self.args, self.kwargs = (), {}
        if isinstance(example, torch.Tensor):
            self.args = (example,)
        elif isinstance(example, dict):
            self.kwargs = dict(example)
        elif isinstance(example, (tuple, list)):
            self.args = tuple(example)
        else:
            raise ExportError(f"the {what} is {kind(example)}; a tensor, a tuple of tensors, or a dictionary of them is needed")
        try:
            self.bound = inspect.signature(model.forward).bind(*self.args, **self.kwargs)
        except TypeError as error:
            raise ExportError(f"the {what} does not fit {type(model).__name__}.forward{inspect.signature(model.forward)}: {error}"
                              + self.unknown(model)) from None
        # By position where that can be, in the order of forward: the order of the graph.
        self.args, self.kwargs = self.bound.args, self.bound.kwargs
        named = list(self.named())
        if not named:
            raise ExportError(f"the {what} has no tensor: a model that is trained takes data")
        for name, tensor in named:
            check_tensor(tensor, f"input {name} of the {what}")
        first, tensor = named[0]
        for name, other in named:
            if other.dim() == 0 or other.shape[0] != tensor.shape[0]:
                raise ExportError(f"input {name} has shape {list(other.shape)}, and {first} has {list(tensor.shape)}: the first dimension of every "
                                  "input is the batch. What is the same for every example belongs into the module, as a buffer")
        self.batch = tensor.shape[0]
        if self.batch == 0:
            raise ExportError(f"the {what} is a batch of no examples; give one or more")
        self.samples = max(2, min(self.batch, SAMPLES))
        self.special = False

    def unknown(self, model):
        """Which names of the example `forward` does not have, as part of a sentence; or nothing."""
        parameters = inspect.signature(model.forward).parameters.values()
        if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            return ""
        names = [parameter.name for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_POSITIONAL]
        odd = [repr(name) for name in self.kwargs if name not in names]
        return f"; the example has {some(odd)}, and forward's inputs are called {', '.join(map(repr, names))}" if odd else ""

    def named(self):
        """Pairs of name and tensor, by the names of forward's parameters."""
        for name, value in self.bound.arguments.items():
            parameter = self.bound.signature.parameters[name]
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                yield from ((f"{name}_{place}", tensor) for place, tensor in enumerate(value))
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                yield from value.items()
            else:
                yield name, value

    def flat(self):
        return [*self.args, *self.kwargs.values()]

    def map(self, change):
        """The same arguments with other tensors."""
        other = copy.copy(self)
        other.args = tuple(change(tensor) for tensor in self.args)
        other.kwargs = {name: change(tensor) for name, tensor in self.kwargs.items()}
        other.bound = self.bound.signature.bind(*other.args, **other.kwargs)
        other.batch = other.flat()[0].shape[0]
        return other

    def draw(self, count, seed):
        """Random inputs of `count` examples, alike in dtype, shape and range. Special ones are
        taken as they are."""
        generator = torch.Generator().manual_seed(seed)
        return self.map(lambda tensor: tensor.detach()[:count].clone() if self.special else draw(tensor.detach(), count, generator))

    def sizes(self, mode):
        """Other sizes of the batch, on which module and graph are tried. One example is too few
        for BatchNorm in training."""
        other = self.samples - 1 if self.special else self.samples + 1
        return (other, 1) if mode == "eval" else (other,) if other > 1 else ()

    def clone(self):
        return self.map(lambda tensor: tensor.detach().clone())

    def special_ones(self, sample):
        """The inputs that the user gave for the seeded step, which have to be alike."""
        alike = [(name, tensor.dtype, tensor.shape[1:]) for name, tensor in self.named()]
        if alike != [(name, tensor.dtype, tensor.shape[1:]) for name, tensor in sample.named()]:
            raise ExportError("the sample does not have the inputs of the example, with their dtypes and shapes")
        if sample.batch < 2:
            raise ExportError("the sample is a batch of one; two examples or more are needed")
        sample.samples, sample.special = sample.batch, True
        return sample.clone()

    def __call__(self, module):
        return module(*self.args, **self.kwargs)


def draw(example, count, generator):
    """Random values between the smallest and the largest of `example`; where it is not finite,
    they are not either."""
    rows = torch.arange(count) % example.shape[0]
    like = example[rows].clone()
    if like.numel() == 0:
        return like
    if example.dtype is torch.bool:
        return torch.rand(like.shape, generator=generator) < example.double().mean()
    finite = example[example.isfinite()].double() if example.is_floating_point() else example
    if finite.numel() == 0:
        return like
    low, high = finite.min().item(), finite.max().item()
    if not example.is_floating_point():
        marks = example[example < 0].unique() if example.dtype.is_signed else example[:0]
        if marks.numel() == 1 and high >= 0:
            # One negative value marks a place, as ignored labels and padding are: it stays there.
            rest = torch.randint(max(0, example[example >= 0].min().item()), high + 1, like.shape, generator=generator).to(example.dtype)
            return torch.where(like < 0, like, rest)
        return torch.randint(low, high + 1, like.shape, generator=generator, dtype=torch.int64).to(example.dtype)
    drawn = (low + (high - low) * torch.rand(like.shape, generator=generator, dtype=torch.float64)).to(example.dtype)
    return torch.where(like.isfinite(), drawn, like)


def try_sizes(model, inputs, seed):
    """Runs the module on batches of several sizes: one that is baked into forward shows here,
    with its line."""
    usual = max(2, inputs.batch)
    for mode in MODES:
        module = duplicate(model, mode)
        for count in dict.fromkeys((usual, inputs.samples, *inputs.sizes(mode))):
            try:
                with torch.no_grad():
                    inputs.draw(count, seed)(module)
            except Exception as error:
                said = f"fails in {mode} mode on a batch of {count}{where(error)}: {brief(error)}"
                if count == usual:
                    raise ExportError(f"the model itself {said}\nIts inputs were drawn at random like the example; if they have to be special, give "
                                      "some as sample=...") from error
                raise ExportError(f"the model takes a batch of {usual} and {said}\nA size that is written down there has to come from the input: "
                                  "x.view(x.shape[0], -1), say") from error


@dataclasses.dataclass
class Step:
    """What one pass over the sample gave."""

    kind: str
    loss: float
    gradients: dict
    """By the name of the parameter; None where there is none."""
    outputs: list
    buffers: dict
    backwards: list
    """The names of the custom autograd functions behind the loss."""

    @property
    def gradient_norm(self):
        unique = {id(gradient): gradient for gradient in self.gradients.values() if gradient is not None}
        return math.sqrt(sum(gradient.double().square().sum().item() for gradient in unique.values()))


def step(module, inputs, loss, target, seed, mode, whose="the model"):
    """Runs a module, in training with its gradients, and judges what comes out."""
    given = inputs.clone()
    torch.manual_seed(seed)
    try:
        with torch.set_grad_enabled(mode == "train"):
            outputs = given(module)
    except Exception as error:
        raise ExportError(f"{whose} fails in {mode} mode on a batch of {inputs.batch}{where(error)}: {brief(error)}") from error
    for (name, before), after in zip(inputs.named(), given.flat()):
        if not torch.equal(torch.nan_to_num(before), torch.nan_to_num(after)):
            raise ExportError(f"forward writes into its input {name}; let it work on a copy ({name}.clone())")
    leaves = [leaf for leaf in pytree.tree_leaves(outputs) if leaf is not None]
    odd = [leaf for leaf in leaves if not isinstance(leaf, torch.Tensor)]
    if odd or not leaves:
        found = f"a value {kind(odd[0])} ({odd[0]!r})" if odd else f"a value {kind(outputs)}" if outputs is None else "no tensor"
        raise ExportError(f"forward returns {found}; it may return tensors only, also as metrics (leave .item() out)")
    first = leaves[0]
    if any(leaf.is_complex() for leaf in leaves):
        raise ExportError("forward gives back complex numbers; a loss needs real ones (torch.view_as_real, or abs)")
    if not first.is_floating_point():
        raise ExportError(f"the first output of forward is {first.dtype}; a loss needs floating point (give back the scores, not the classes)")
    if first.dim() == 0 and loss is not None:
        raise ExportError(f"forward gives back a loss of its own; leave loss={loss!r} out")
    if loss is not None:
        try:
            value, name = LOSSES[loss](first, target), loss
        except Exception as error:
            raise ExportError(f"{loss} of the first output, {list(first.shape)} {first.dtype}, and the target, "
                              f"{list(target.shape)} {target.dtype}, fails: {brief(error)}{advice(loss, first, target)}") from error
    elif first.dim() == 0:
        value, name = first, "output"
    else:
        value, name = first.float().square().mean(), "mean_square"
    if not bool(value.isfinite()):
        raise ExportError(f"the {name} of the first output is {value.item()} in {mode} mode on random inputs; give inputs that make sense as sample=...")
    gradients = {}
    if mode == "train":
        if not value.requires_grad:
            raise ExportError("the first output of forward does not depend on a parameter: there is no gradient (is it detached, or made under no_grad?)")
        parameters = {key: parameter for key, parameter in module.named_parameters(remove_duplicate=False) if parameter.requires_grad}
        unique = {id(parameter): parameter for parameter in parameters.values()}
        found = dict(zip(unique, torch.autograd.grad(value, list(unique.values()), allow_unused=True)))
        gradients = {key: found[id(parameter)] for key, parameter in parameters.items()}
        odd = [key for key, gradient in gradients.items() if gradient is not None and not bool(gradient.isfinite().all())]
        if odd:
            raise ExportError(f"the gradient of {some(odd)} is not finite on random inputs; give inputs that make sense as sample=...")
    buffers = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
    return Step(name, value.item(), gradients, [leaf.detach() for leaf in leaves], buffers, custom_backwards(value))


def advice(loss, scores, target):
    """What is likely to be wrong with a target that a loss refuses, as part of a sentence; or
    nothing."""
    if loss == "mse":
        return ""
    if target.dtype is not torch.int64:
        return f". The target of {loss} holds classes: pass it as int64 (target.long())"
    if target.dim() > 1 and target.shape[1:] == (1,) and scores.dim() == 2:
        return ". Leave the last dimension of the target out: target.squeeze(1)"
    if scores.dim() < 2 or target.numel() == 0:
        return ""
    classes = classes_second(scores, target).shape[1]
    high = int(target.max())
    if high < classes:
        return ""
    return (f". The target holds the class {high}, and the output has scores for 0 to {classes - 1}; "
            "labels count from 0, so subtract 1 where yours count from 1")


def trace(module, inputs, dynamic, mode):
    """The graph of a module in one mode, with a batch of any size."""
    batch = torch.export.Dim("batch", min=1)
    further = dict(dynamic or {})
    shapes = {}
    for name, tensor in inputs.named():
        extra = further.pop(name, {})
        if not isinstance(extra, dict) or any(not isinstance(place, int) or not 0 < place < tensor.dim() for place in extra):
            raise ExportError(f"dynamic[{name!r}] is {extra!r}; a dictionary from dimensions between 1 and {tensor.dim() - 1} to torch.export.Dim is needed "
                              "(dimension 0 is the batch)")
        shapes[id(tensor)] = {0: batch, **extra}
    if further:
        raise ExportError(f"dynamic names {some(further)}, and the inputs are {', '.join(name for name, _ in inputs.named())}")
    by_argument = {}
    for name, value in inputs.bound.arguments.items():
        by_argument[name] = pytree.tree_map(lambda tensor: shapes[id(tensor)], value)
    # PyTorch prints a graph where it gives up; what it says on success goes on.
    with Guards() as guards, contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            program = torch.export.export(module, inputs.args, inputs.kwargs, dynamic_shapes=by_argument, strict=False)
        except Exception as error:
            raise ExportError(explain(error, guards, mode)) from error
    sys.stderr.write(said.getvalue())
    return program


class Guards(logging.Handler):
    """Listens to PyTorch's tracing, quietly, for the user's lines that narrow a dynamic
    dimension."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
        self.lines = []

    def emit(self, record):
        text = record.getMessage()
        if "[guard added]" in text:
            line = user_line(traceback.extract_stack(sys._getframe(1)))
            if line and line not in self.lines:
                self.lines.append(line)

    def __enter__(self):
        self.before = (self.logger.level, self.logger.propagate, self.logger.handlers[:])
        self.logger.handlers[:] = [self]
        self.logger.setLevel(logging.INFO)
        self.logger.propagate = False
        return self

    def __exit__(self, *_):
        level, self.logger.propagate, self.logger.handlers[:] = self.before
        self.logger.setLevel(level)


def explain(error, guards, mode):
    """An error of torch.export in the words of somebody who has written a model."""
    text = str(error)
    at = where(error)
    if "data-dependent" in text or "GuardOnDataDependent" in type(error).__name__:
        return (f"forward decides by the values of a tensor{at}. A graph has no such branch: use torch.where, or torch.cond with a function for each case")
    if "Constraints violated" in text or "specialized" in text:
        fixed = re.findall(r"a constant \((\d+)\)", text)
        needs = re.findall(r"satisfy the generated guard (.+?)\.?$", text, re.MULTILINE)
        told = [f"it is fixed at {size}" for size in fixed] + [f"it needs {need}" for need in needs] or [" ".join(text.split())]
        lines = "".join(f"\n  {line}" for line in guards.lines) or "\n  (PyTorch does not tell which)"
        dimension = re.search(r"Constraints violated \((.+?)\)", text)
        dimension = dimension.group(1) if dimension else "a dynamic dimension"
        return (f"the graph in {mode} mode would not take every size of {dimension}: {'; '.join(told)}. A loop over that dimension, a condition on its "
                f"size, or a size that is written down does that. The lines that narrow a size:{lines}")
    return f"torch.export refuses the model in {mode} mode{at}: {brief(error)}"


def compare(programs, model, inputs, steps, loss, target, seed):
    """Holds the graphs against the module: outputs, buffers and gradients of the seeded step,
    and other batches."""
    for mode in MODES:
        want = steps[mode]
        # A copy: a training step writes into buffers, which the archive is to hold as they were.
        have = step(copy.deepcopy(programs[mode].module()), inputs, loss, target, seed, mode, "the exported graph")
        wrong = [str(place) for place, (a, b) in enumerate(zip(want.outputs, have.outputs)) if differs(a, b)]
        if len(want.outputs) != len(have.outputs) or wrong:
            raise ExportError(f"the graph in {mode} mode gives other outputs than the module ({', '.join(wrong) or 'not as many'}). A value that Python computed "
                              "(item(), numpy, a random number of Python, a counter in an attribute) is a constant in the graph")
        wrong = [name for name in want.buffers if name in have.buffers and differs(want.buffers[name], have.buffers[name])]
        if wrong:
            raise ExportError(f"the graph in {mode} mode leaves other values in {some(wrong)} than the module")
        wrong = [name for name, gradient in want.gradients.items() if differs(gradient, have.gradients.get(name), 1e-2 * TOLERANCE * want.gradient_norm)]
        if wrong:
            raise ExportError(f"the exported graph gives other gradients than the module for {some(wrong)}. {reason(model, want)}")
    for mode, count in ((mode, count) for mode in MODES for count in inputs.sizes(mode)):
        other = inputs.draw(count, seed)
        leaves = []
        for tried in (duplicate(model, mode), copy.deepcopy(programs[mode].module())):
            torch.manual_seed(seed)
            try:
                with torch.no_grad():
                    leaves.append([leaf for leaf in pytree.tree_leaves(other.clone()(tried)) if isinstance(leaf, torch.Tensor)])
            except Exception as error:
                raise ExportError(f"the {mode} graph fails on a batch of {count}{where(error)}: {brief(error)}") from error
        if any(differs(a, b) for a, b in zip(*leaves)):
            raise ExportError(f"the {mode} graph gives other outputs than the module on a batch of {count}: a number that depends on its size is a constant in it")


def differs(want, have, allowed=0.0):
    """Whether two tensors are apart beyond rounding; None is a gradient that is not there, which
    a zero may stand for."""
    if want is None and have is not None:
        want = torch.zeros_like(have)
    elif have is None and want is not None:
        have = torch.zeros_like(want)
    if want is None:
        return False
    if want.shape != have.shape or want.dtype != have.dtype:
        return True
    if not want.is_floating_point():
        return not torch.equal(want, have)
    want, have = want.detach().double(), have.detach().double()
    if not torch.equal(want.isfinite(), have.isfinite()):
        return True
    want, have = want[want.isfinite()], have[have.isfinite()]
    return bool((want - have).norm() > TOLERANCE * want.norm() + max(allowed, 1e-12))


def reason(model, want):
    """Why a graph may have other gradients than its module."""
    hooked = [name or type(model).__name__ for name, module in model.named_modules() if module._backward_hooks or module._backward_pre_hooks]
    hooked += [name for name, parameter in model.named_parameters() if parameter._backward_hooks]
    found = []
    if want.backwards:
        found.append(f"The backward of {some(want.backwards)} is not exported; only what its forward does is. A straight-through estimator, for one, "
                     "can be written as x + (f(x) - x).detach()")
    if hooked:
        found.append(f"The gradient hooks of {some(hooked)} are not exported")
    return ". ".join(found) or "Hooks on tensors (register_hook) and backwards of custom autograd functions are not exported"


def custom_backwards(value):
    """The names of the custom autograd functions behind a tensor."""
    seen, names, todo = set(), [], [value.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        function = getattr(type(node), "_forward_cls", None)
        if function is not None and not function.__module__.startswith("torch.") and function.__name__ not in names:
            names.append(function.__name__)
        todo.extend(before for before, _ in node.next_functions)
    return names


def write(path, programs, told, raw):
    """Writes the archive beside `path` and renames it, so that the file is whole or absent."""
    folder = os.path.dirname(os.path.abspath(path))
    handle, aside = tempfile.mkstemp(dir=folder, prefix=".torchd-", suffix=".pt2")
    try:
        with os.fdopen(handle, "wb") as sink, zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
            root = os.path.basename(path)[:-len(".pt2")]
            put = Writer(archive, root)
            put.bytes("archive_format", b"pt2")
            put.bytes("archive_version", b"0")
            put.bytes(".data/version", b"6\n")
            put.bytes("byteorder", sys.byteorder.encode())
            for mode, program in programs.items():
                put.bytes(f"models/{mode}.json", graph_json(program, folder))
                put.tensors(mode, "weights", "weight", program.state_dict)
                put.tensors(mode, "constants", "tensor", program.constants)
                put.bytes(f"data/sample_inputs/{mode}.pt", b"")
            for name, tensor in raw.items():
                put.bytes(name, raw_bytes(tensor))
            put.bytes("extra/torchd.json", json.dumps(told, indent=1).encode())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(aside, 0o666 & ~mask)
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise


class Writer:
    """Entries of an archive."""

    def __init__(self, archive, root):
        self.archive, self.root, self.files = archive, root, {}

    def bytes(self, name, content):
        # A fixed time: the same model gives the same file.
        entry = zipfile.ZipInfo(f"{self.root}/{name}", (1980, 1, 1, 0, 0, 0))
        entry.external_attr = 0o644 << 16
        self.archive.writestr(entry, content)

    def tensors(self, mode, folder, prefix, tensors):
        """The raw storages, and the list that tells which view of which is which tensor."""
        storages = {}
        for name, tensor in tensors.items():
            if not isinstance(tensor, torch.Tensor):
                raise ExportError(f"the graph in {mode} mode needs {name}, which is {kind(tensor)}; it may need tensors only")
            storages.setdefault(tensor.untyped_storage()._cdata, {})[name] = tensor
        config = {}
        for views in storages.values():
            # Views that differ need the whole storage, one alone goes without the rest of it.
            whole = len({(tensor.dtype, tensor.shape, tensor.stride(), tensor.storage_offset()) for tensor in views.values()}) > 1
            one = next(iter(views.values())).detach()
            stored = one if whole else one.contiguous()
            content = raw_bytes(torch.empty(0, dtype=torch.uint8).set_(one.untyped_storage()) if whole else one)
            path = self.shared(folder, prefix, tuple(views), content)
            for name, tensor in views.items():
                config[name] = {
                    "path_name": path,
                    "is_param": isinstance(tensor, torch.nn.Parameter),
                    "use_pickle": False,
                    "tensor_meta": {
                        "dtype": DTYPES[tensor.dtype],
                        "sizes": [{"as_int": size} for size in tensor.shape],
                        "requires_grad": tensor.requires_grad,
                        "device": {"type": "cpu", "index": None},
                        "strides": [{"as_int": stride} for stride in (tensor if whole else stored).stride()],
                        "storage_offset": {"as_int": tensor.storage_offset() if whole else 0},
                        "layout": 7,
                    },
                }
        self.bytes(f"data/{folder}/{mode}_{folder}_config.json", json.dumps({"config": config}).encode())

    def shared(self, folder, prefix, names, content):
        """The file of a storage: that of the other graph, where the same tensors have the same
        values there."""
        key = (folder, names, hashlib.sha256(content).digest())
        if key not in self.files:
            self.files[key] = f"{prefix}_{len(self.files)}"
            self.bytes(f"data/{folder}/{self.files[key]}", content)
        return self.files[key]


def graph_json(program, folder):
    """The graph, out of what `torch.export.save` writes: by 2.7 in a container of its own, by
    later ones in an archive."""
    with tempfile.TemporaryFile(dir=folder) as saved:
        torch.export.save(program, saved)
        with zipfile.ZipFile(saved) as archive:
            name = next(name for name in archive.namelist() if name == "serialized_exported_program.json" or name.endswith("models/model.json"))
            return archive.read(name)


def raw_bytes(tensor):
    """The numbers of a tensor, little-endian, in the order of its elements."""
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else torch.empty(0, dtype=torch.uint8)
    return (ctypes.c_char * flat.numel()).from_address(flat.data_ptr()).raw if flat.numel() else b""


def describe(name, tensor):
    """An entry of `extra/torchd.json` for a tensor of the seeded step."""
    return {"name": name, "dtype": str(tensor.dtype).replace("torch.", ""), "shape": list(tensor.shape), "path": f"data/torchd/{name}"}


def duplicate(model, mode):
    """A copy of the module in a mode, since what runs it changes buffers."""
    try:
        return copy.deepcopy(model).train(mode == "train")
    except Exception as error:
        raise ExportError(f"the model cannot be copied: {brief(error)}\nDoes an attribute keep a result of forward? Detach it, or drop it") from error


def check_tensor(tensor, what):
    if not isinstance(tensor, torch.Tensor):
        raise ExportError(f"{what} is {kind(tensor)}; a tensor is needed (set numbers, flags and lists in the module's __init__, not in forward's arguments)")
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise ExportError(f"{what} is not an ordinary tensor but {tensor.layout}")
    if tensor.dtype not in DTYPES:
        raise ExportError(f"{what} has dtype {tensor.dtype}, which is not trained on; float32 and int64 are")
    if tensor.device.type != "cpu":
        raise ExportError(f"{what} is on {tensor.device}; give it on the CPU")


def where(error):
    """The user's own line that an error comes from, as part of a sentence; or nothing."""
    line = user_line(traceback.extract_tb(error.__traceback__))
    return f" at {line}" if line else ""


def user_line(frames):
    """The innermost of the frames below this file that is neither PyTorch's nor Python's own."""
    for frame in reversed(frames):
        if frame.filename == __file__ and frame.name != "emit":
            return None
        name = os.path.abspath(frame.filename)
        if frame.filename.startswith("<") or name.startswith(TORCH) or (name.startswith(PYTHON) and "-packages" not in name):
            continue
        return f"{frame.filename}:{frame.lineno}, in {frame.name}: {frame.line}"
    return None


def brief(error):
    """The first lines of an error, without PyTorch's advice for its own developers."""
    text = str(error).split("\n\nThe error above occurred")[0].split("For more information")[0].strip()
    return f"{type(error).__name__}: " + "\n".join(text.splitlines()[:4])


def kind(value):
    return f"of type {type(value).__name__}"


def some(names):
    """A list of names, as long as one can read."""
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
