"""The peer of benches/first_step.rs: reads a set of IDX files, makes the first step of the network of
`model.mnist_cnn` with PyTorch, and says its loss.

    first_step.py IMAGES LABELS
"""

import sys

import numpy
import torch
from torch import nn


def read(path, header):
    return torch.from_numpy(numpy.fromfile(path, numpy.uint8, offset=header))


images = read(sys.argv[1], 16).view(-1, 1, 28, 28)
labels = read(sys.argv[2], 8)
torch.manual_seed(1)
network = nn.Sequential(
    nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU(),
    nn.Conv2d(10, 20, 5), nn.Dropout2d(), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(),
    nn.Linear(320, 50), nn.ReLU(), nn.Dropout(), nn.Linear(50, 10),
)
optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.5)
batch = torch.randperm(len(images))[:64]
inputs = (images[batch].float() / 255 - 0.1307) / 0.3081
loss = nn.functional.cross_entropy(network(inputs), labels[batch].long())
loss.backward()
optimizer.step()
print(loss.item(), flush=True)
