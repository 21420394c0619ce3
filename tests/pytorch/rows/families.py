"""The families of networks, and the layers of `sequential`."""

import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models

from . import Row, numbers

ENCODER = "transformer_encoder_layer = { nhead = 2, dim_feedforward = 24, dropout = 0.25"


def pictures(examples):
    """Pictures of three channels and 16x16, in three classes."""
    torch.manual_seed(13)
    return {"x": torch.randn(examples, 3, 16, 16), "y": torch.randint(0, 3, (examples,))}


def digits(examples):
    """Pictures of 28x28, in ten classes."""
    torch.manual_seed(14)
    return {"x": torch.randn(examples, 1, 28, 28), "y": torch.randint(0, 10, (examples,))}


def tokens(examples):
    """Twelve tokens out of 17, each with the one that follows."""
    torch.manual_seed(15)
    text = torch.randint(0, 17, (examples, 13))
    return {"x": text[:, :-1].contiguous(), "y": text[:, 1:].contiguous()}


def sentences(examples):
    """Twelve tokens out of 17, in three classes."""
    torch.manual_seed(16)
    return {"x": torch.randint(0, 17, (examples, 12)), "y": torch.randint(0, 3, (examples,))}


class Digits(nn.Module):
    """The notebook's network."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 10, 5), nn.Conv2d(10, 20, 5)
        self.drop = nn.Dropout2d()
        self.fc1, self.fc2 = nn.Linear(320, 50), nn.Linear(50, 10)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.drop(self.conv2(x)), 2)).view(-1, 320)
        return F.log_softmax(self.fc2(F.dropout(F.relu(self.fc1(x)), training=self.training)), dim=1)


def residual(depth, make, small=False):
    """A row of a residual network."""
    def module():
        module = make(num_classes=3)
        if small:
            module.conv1, module.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
        return module

    stem = 'stem = "small"\n' if small else ""
    return Row(
        model=f"[model.resnet]\ndepth = {depth}\n{stem}", module=module, data=pictures)


class Block(nn.Module):
    """A layer of `Gpt`."""

    def __init__(self, heads, width, dropout):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.ModuleDict({"c_attn": nn.Linear(width, 3 * width), "c_proj": nn.Linear(width, width)})
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x):
        size, length, width = x.shape
        parts = self.attn["c_attn"](self.ln_1(x)).split(width, dim=2)
        query, key, value = (part.view(size, length, self.heads, -1).transpose(1, 2) for part in parts)
        seen = F.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropout if self.training else 0, is_causal=True)
        seen = seen.transpose(1, 2).reshape(size, length, width)
        x = x + F.dropout(self.attn["c_proj"](seen), self.dropout, self.training)
        inner = self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x))))
        return x + F.dropout(inner, self.dropout, self.training)


class Gpt(nn.Module):
    """The family `gpt`."""

    def __init__(self, vocabulary, context, layers, heads, width, dropout):
        super().__init__()
        self.dropout = dropout
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(vocabulary, width), "wpe": nn.Embedding(context, width),
            "h": nn.ModuleList([Block(heads, width, dropout) for _ in range(layers)]), "ln_f": nn.LayerNorm(width)})
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02 / ((2 * layers) ** 0.5 if name.endswith("c_proj.weight") else 1))

    def forward(self, x):
        x = self.transformer["wte"](x) + self.transformer["wpe"](torch.arange(x.size(1)))
        x = F.dropout(x, self.dropout, self.training)
        for block in self.transformer["h"]:
            x = block(x)
        return self.lm_head(self.transformer["ln_f"](x))


def encoder(**settings):
    return nn.TransformerEncoderLayer(16, 2, 24, dropout=0.25, batch_first=True, **settings)


def sequential(*layers):
    """The section of these layers."""
    return "[model.sequential]\nlayers = [\n" + "".join(f"  {{ {layer} }},\n" for layer in layers) + "]\n"


ROWS = {
    "mnist_cnn": Row(model="[model.mnist_cnn]\n", module=Digits, data=digits, loss=F.nll_loss),
    "linear regression": Row(model="[model.linear]\n", module=lambda: nn.Linear(6, 2), data=numbers, loss=nn.MSELoss()),
    "linear classes": Row(model="[model.linear]\n", module=lambda: nn.Linear(6, 3)),
    "resnet18": residual(18, models.resnet18),
    "resnet18 small": residual(18, models.resnet18, small=True),
    "resnet34": residual(34, models.resnet34),
    "resnet50": residual(50, models.resnet50),
    "vit": Row(
        model="[model.vit]\npatch = 4\nlayers = 2\nheads = 4\nwidth = 32\nmlp_width = 48\ndropout = 0.1\n", data=pictures,
        module=lambda: models.VisionTransformer(16, 4, 2, 4, 32, 48, dropout=0.1, num_classes=3)),
    "gpt": Row(
        model="[model.gpt]\nlayers = 2\nheads = 4\nwidth = 32\ncontext = 20\ndropout = 0.1\n", data=tokens,
        module=lambda: Gpt(17, 20, 2, 4, 32, 0.1), loss=lambda outputs, targets: F.cross_entropy(outputs.flatten(0, 1), targets.flatten())),
    "sequential images": Row(
        model=sequential(
            "conv2d = { out_channels = 6, kernel_size = 3, stride = 2, padding = 2, groups = 3, bias = false }",
            "batch_norm2d = {}", "leaky_relu = { negative_slope = 0.2 }", "max_pool2d = { kernel_size = 3, stride = 1, padding = 1 }",
            "dropout2d = { p = 0.25 }", "group_norm = { num_groups = 2 }", "elu = { alpha = 0.5 }",
            "avg_pool2d = { kernel_size = 2, stride = 1, padding = 1, count_include_pad = false }", "silu = {}",
            "adaptive_avg_pool2d = { output_size = 2 }", "flatten = {}", "linear = { out_features = 9, bias = false }",
            "batch_norm1d = { momentum = 0.5 }", "tanh = {}", "linear = { out_features = 8 }", "sigmoid = {}", "softmax = {}",
            "layer_norm = {}", "relu = {}", "linear = {}", "log_softmax = {}"),
        spec="[loss.nll]\n", loss=F.nll_loss, data=pictures,
        module=lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, 2, groups=3, bias=False), nn.BatchNorm2d(6), nn.LeakyReLU(0.2), nn.MaxPool2d(3, 1, 1),
            nn.Dropout2d(0.25), nn.GroupNorm(2, 6), nn.ELU(0.5), nn.AvgPool2d(2, 1, 1, count_include_pad=False), nn.SiLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 9, bias=False), nn.BatchNorm1d(9, momentum=0.5), nn.Tanh(),
            nn.Linear(9, 8), nn.Sigmoid(), nn.Softmax(1), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3), nn.LogSoftmax(1))),
    "sequential tokens": Row(
        model=sequential(
            "embedding = { num_embeddings = 17, embedding_dim = 16 }", ENCODER + ', activation = "gelu", norm_first = true }',
            ENCODER + " }", 'gelu = { approximate = "tanh" }', "conv1d = { out_channels = 8, kernel_size = 3, dilation = 2 }",
            "max_pool1d = { kernel_size = 2 }", "flatten = {}", "dropout = { p = 0.25 }", "linear = {}"),
        data=sentences,
        module=lambda: nn.Sequential(
            nn.Embedding(17, 16), encoder(activation="gelu", norm_first=True), encoder(), nn.GELU("tanh"), nn.Conv1d(12, 8, 3, dilation=2),
            nn.MaxPool1d(2), nn.Flatten(), nn.Dropout(0.25), nn.Linear(48, 3))),
}
