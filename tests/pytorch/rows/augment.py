"""The changes of training examples, one example after the other, with the numbers that torchd draws."""

import math

import torch
from torch import nn
from torch.nn import functional as F

import reference

from . import Row
from .families import pictures

SEED = 7
"""That of the jobs of `recipes.py`."""
MEAN, STD = torch.tensor([0.1, 0.2, -0.3]).view(-1, 1, 1), torch.tensor([0.5, 0.75, 1.25]).view(-1, 1, 1)
NORMALIZE = "[data.normalize]\nmean = [0.1, 0.2, -0.3]\nstd = [0.5, 0.75, 1.25]\n"


def convolution():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.25), nn.Linear(8 * 14 * 14, 3))


def normalized(x):
    return (x - MEAN) / STD


def uniform(examples, numbers=1):
    return torch.rand(examples, numbers, dtype=torch.float64)


def crop(x, y, padding, fill):
    down, right = torch.randint(2 * padding + 1, (2, len(x))).tolist()
    fill = (fill - MEAN) / STD
    changed = []
    for image, i, j in zip(x, down, right):
        channels, height, width = image.shape
        padded = fill.expand(channels, height + 2 * padding, width + 2 * padding).clone()
        padded[:, padding:padding + height, padding:padding + width] = image
        changed.append(padded[:, i:i + height, j:j + width])
    return torch.stack(changed), y


def flip(x, y, p=0.5, dimension=-1):
    drawn = uniform(len(x))
    return torch.stack([image.flip(dimension) if u.item() < p else image for image, u in zip(x, drawn)]), y


def erase(x, y, p=0.5, area=(0.02, 0.33), ratio=(0.3, 3.3), value=0.0):
    """As torchvision's RandomErasing, with all that might be needed drawn at once."""
    low, high = (math.log(bound) for bound in ratio)
    count, _, height, width = x.shape
    drawn, areas, ratios = uniform(count), uniform(count, 10), uniform(count, 10)
    rows, columns = uniform(count), uniform(count)
    changed = []
    for place, image in enumerate(x):
        image = image.clone()
        for u, v in zip(areas[place].tolist(), ratios[place].tolist()):
            size, aspect = height * width * (u * (area[1] - area[0]) + area[0]), math.exp(v * (high - low) + low)
            h, w = round(math.sqrt(size * aspect)), round(math.sqrt(size / aspect))
            if h < height and w < width:
                i, j = int(rows[place].item() * (height - h + 1)), int(columns[place].item() * (width - w + 1))
                if drawn[place].item() < p:
                    image[:, i:i + h, j:j + w] = value
                break
        changed.append(image)
    return torch.stack(changed), y


def noise(x, y, std):
    drawn = torch.randn(x.shape)
    return torch.stack([example + std * numbers for example, numbers in zip(x, drawn)]), y


def share(alpha):
    """As torch.distributions.Beta draws it."""
    return torch._sample_dirichlet(torch.tensor([alpha, alpha])).tolist()[0]


def mix_up(x, y, alpha):
    kept, partners = share(alpha), torch.randperm(len(x))
    mixed = [kept * example + (1 - kept) * x[partner] for example, partner in zip(x, partners)]
    return torch.stack(mixed), (y, y[partners], kept)


def cut_mix(x, y, alpha):
    """As torchvision's CutMix, but for the partners."""
    kept, partners = share(alpha), torch.randperm(len(x))
    height, width = x.shape[-2:]
    at_x, at_y = torch.randint(width, (1,)).item(), torch.randint(height, (1,)).item()
    half = 0.5 * math.sqrt(1 - kept)
    x1, x2 = max(at_x - int(half * width), 0), min(at_x + int(half * width), width)
    y1, y2 = max(at_y - int(half * height), 0), min(at_y + int(half * height), height)
    changed = []
    for image, partner in zip(x, partners):
        image = image.clone()
        image[:, y1:y2, x1:x2] = x[partner][:, y1:y2, x1:x2]
        changed.append(image)
    return torch.stack(changed), (y, y[partners], 1 - (x2 - x1) * (y2 - y1) / (width * height))


def listed(*changes):
    """The changes of a list, each with its own numbers."""
    def change(x, y, step):
        for place, (one, settings) in enumerate(changes):
            torch.manual_seed(reference.derive(SEED, 5, step, place))
            x, y = one(x, y, **settings)
        return x, y
    return change


def mixed(module, optimizer, x, y, loss):
    first, second, kept = y
    optimizer.zero_grad()
    outputs = module(x)
    value = kept * loss(outputs, first) + (1 - kept) * loss(outputs, second)
    value.backward()
    optimizer.step()
    return value.item()


WEIGHTS = torch.tensor([1.0, 2.0, 3.0])


def weighted(outputs, targets):
    return F.cross_entropy(outputs, targets, WEIGHTS)


def accumulated(module, optimizer, x, y, loss):
    """Parts of two examples; the means are those of the whole batch."""
    optimizer.zero_grad()
    first, second, kept = y
    whole = 0.0
    for part, one, other in zip(x.split(2), first.split(2), second.split(2)):
        outputs = module(part)
        of = lambda targets, all: F.cross_entropy(outputs, targets, WEIGHTS, reduction="sum") / WEIGHTS[all].sum()
        value = kept * of(one, first) + (1 - kept) * of(other, second)
        value.backward()
        whole += value.detach()
    optimizer.step()
    return whole.item()


def images(augment, *changes, **others):
    """A row of images."""
    return Row(
        model="[model.sequential]\nlayers = [{ conv2d = { out_channels = 8, kernel_size = 3 } }, { relu = {} }, { flatten = {} }, { dropout = { p = 0.25 } }, { linear = {} }]\n",
        module=convolution, data=pictures, prepare=normalized, change=listed(*changes),
        spec=NORMALIZE + "".join(f"[[data.augment]]\n{one}\n" for one in augment), **others)


def table(augment, *changes, **others):
    """A row of numbers."""
    return Row(spec=f"[[data.augment]]\n{augment}\n" + others.pop("spec", ""), change=listed(*changes), **others)


ROWS = {
    "crop": images(["crop = { padding = 3, fill = 0.5 }"], (crop, dict(padding=3, fill=0.5))),
    "flip": images(
        ["flip = {}", "flip = { p = 0.25, vertical = true }"], (flip, {}), (flip, dict(p=0.25, dimension=-2))),
    "erase": images(["erase = { p = 0.75 }"], (erase, dict(p=0.75))),
    # Half of the sizes are no smaller than the image.
    "erase large": images(
        ["erase = { p = 1, min_area = 0.5, max_area = 1, min_ratio = 0.2, max_ratio = 5, value = -1.5 }"],
        (erase, dict(p=1, area=(0.5, 1), ratio=(0.2, 5), value=-1.5))),
    "cut_mix": images(["cut_mix = {}"], (cut_mix, dict(alpha=1.0)), step=mixed),
    "list": images(
        ["crop = { padding = 2 }", "flip = {}", "mix_up = { alpha = 0.2 }", "erase = {}", "noise = { std = 0.05 }"],
        (crop, dict(padding=2, fill=0.0)), (flip, {}), (mix_up, dict(alpha=0.2)), (erase, {}), (noise, dict(std=0.05)), step=mixed),
    "noise": table("noise = { std = 0.1 }", (noise, dict(std=0.1))),
    "mix_up": table("mix_up = { alpha = 0.4 }", (mix_up, dict(alpha=0.4)), step=mixed),
    "mix_up parts": table(
        "mix_up = {}", (mix_up, dict(alpha=1.0)), training="accumulate_steps = 4",
        spec="[loss.cross_entropy]\nclass_weights = [1, 2, 3]\n", loss=weighted, step=accumulated),
}
