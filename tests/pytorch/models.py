"""The models that torchd is compared with PyTorch on: small ones of our own, and torchvision's.

`ZOO` has them by name. A `Case` makes the module, and data for it: a dictionary of tensors whose first dimension is the
example. `y` is the target where the case has a loss; all other names are parameters of forward.
"""

import dataclasses
from typing import Callable, Dict, Optional

import torch
from torch import nn
from torch.nn import functional as F


@dataclasses.dataclass(frozen=True)
class Case:
    make: Callable[[], nn.Module]
    data: Callable[[int], Dict[str, torch.Tensor]]
    loss: Optional[str] = "cross_entropy"
    """A loss of `torchd_export.LOSSES`, or None where forward gives back its own."""
    rate: float = 0.05
    momentum: float = 0.9
    apart: float = 0.0
    """How far losses and weights may be from PyTorch's own. On the CPU they are equal bit for bit."""


class Mlp(nn.Module):
    def __init__(self, inputs=20, width=64, classes=3, dropout=0.2):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(width, width), nn.LayerNorm(width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, classes))

    def forward(self, x):
        return self.net(x)


class Cnn(nn.Module):
    """Convolutions with BatchNorm, ReLU in place, and dropout."""

    def __init__(self, channels=3, width=16, classes=10, dropout=0.3):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x):
        return self.head(self.dropout(self.features(x).flatten(1)))


class Notebook(nn.Module):
    """The network of the single-node PyTorch notebook."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.conv2_drop = nn.Dropout2d()
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        x = F.relu(self.fc1(x.view(-1, 320)))
        x = F.dropout(x, training=self.training)
        return F.log_softmax(self.fc2(x), dim=1)


class Block(nn.Module):
    """A layer of a decoder: causal attention, then a small network, both with a way around."""

    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout))

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.dropout if self.training else 0.0)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


class Gpt(nn.Module):
    """A decoder whose embedding is tied to its head. Gives back scores as [batch, words, length]."""

    def __init__(self, words=65, width=64, heads=4, layers=2, context=32, dropout=0.1):
        super().__init__()
        self.token, self.position = nn.Embedding(words, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList([Block(width, heads, dropout) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        self.head.weight = self.token.weight
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens):
        x = self.dropout(self.token(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device)))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)).transpose(1, 2)


class Encoder(nn.Module):
    """torch.nn.TransformerEncoder, as people use it."""

    def __init__(self, words=100, width=32, heads=4, layers=2, dropout=0.1):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 2)

    def forward(self, tokens):
        return self.head(self.encoder(self.embedding(tokens)).mean(1))


class Recurrent(nn.Module):
    def __init__(self, kind=nn.LSTM, words=50, width=16, classes=10, layers=2, both=True):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.cells = kind(width, width, layers, batch_first=True, dropout=0.3 if layers > 1 else 0.0, bidirectional=both)
        self.head = nn.Linear(width * (2 if both else 1), classes)

    def forward(self, tokens):
        return self.head(self.cells(self.embedding(tokens))[0][:, -1])


class UNet(nn.Module):
    """Two levels down and up again, joined across: a class for each pixel."""

    def __init__(self, channels=3, width=8, classes=4):
        super().__init__()

        def twice(inputs, outputs):
            return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(),
                                 nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())

        self.down1, self.down2, self.bottom = twice(channels, width), twice(width, 2 * width), twice(2 * width, 4 * width)
        self.up2, self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2), nn.Upsample(scale_factor=2, mode="bilinear")
        self.join2, self.join1, self.head = twice(4 * width, 2 * width), twice(3 * width, width), nn.Conv2d(width, classes, 1)

    def forward(self, x):
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        x = self.bottom(F.max_pool2d(second, 2))
        x = self.join2(torch.cat([self.up2(x), second], 1))
        return self.head(self.join1(torch.cat([self.up1(x), first], 1)))


class Tied(nn.Module):
    """An autoencoder with one weight for both ways, a buffer that is not saved, and a tensor that is no buffer."""

    def __init__(self, width=12):
        super().__init__()
        self.encode = nn.Linear(width, width)
        self.decode = nn.Linear(width, width)
        self.decode.weight = self.encode.weight
        self.register_buffer("scale", torch.linspace(0.5, 1.5, width), persistent=False)
        self.shift = torch.full((width,), 0.1)

    def forward(self, x):
        return self.decode(torch.tanh(self.encode(x * self.scale))) + self.shift


class StepLoss(nn.Module):
    """A model with its own loss."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, y):
        return F.cross_entropy(self.model(x), y, label_smoothing=0.05)


class StepMetrics(nn.Module):
    """A model with its own loss and metrics."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, y):
        scores = self.model(x)
        accuracy = (scores.argmax(-1) == y).float().mean()
        return F.cross_entropy(scores, y), {"accuracy": accuracy, "score_norm": scores.detach().norm()}


class TwoTargets(nn.Module):
    """A model with its own loss, which compares with two tensors of the data."""

    def __init__(self, inputs=8, width=12, classes=3, sizes=2):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, width), nn.Tanh())
        self.kind, self.size = nn.Linear(width, classes), nn.Linear(width, sizes)

    def forward(self, x, size, y):
        hidden = self.body(x)
        of_size = F.smooth_l1_loss(self.size(hidden), size)
        return F.cross_entropy(self.kind(hidden), y) + of_size, {"of_size": of_size.detach()}


class TwoInputs(nn.Module):
    """An image and some numbers beside it."""

    def __init__(self, channels=1, width=4, numbers=3, classes=3):
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.numbers = nn.Linear(numbers, width)
        self.head = nn.Linear(5 * width, classes)

    def forward(self, image, numbers):
        return self.head(torch.cat([self.image(image), self.numbers(numbers).relu()], 1))


class Branch(nn.Module):
    """torch.cond: which of two layers is used depends on the data."""

    def __init__(self, inputs=8, classes=3):
        super().__init__()
        self.left, self.right = nn.Linear(inputs, classes), nn.Linear(inputs, classes)

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: self.left(x), lambda x: self.right(x), (x,))


class Masked(nn.Module):
    """Attention by hand: a causal mask, padding that is masked, and a region without gradients."""

    def __init__(self, words=50, width=16, length=12, classes=10):
        super().__init__()
        self.embedding = nn.Embedding(words, width, padding_idx=0)
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.head = nn.Linear(width, classes)
        self.register_buffer("mask", torch.tril(torch.ones(length, length)).bool(), persistent=False)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, tokens):
        x = self.embedding(tokens)
        scores = torch.einsum("bic,bjc->bij", self.query(x), self.key(x)) / x.shape[-1] ** 0.5
        scores = scores.masked_fill(~self.mask, float("-inf")).masked_fill((tokens == 0)[:, None, :], -1e4).softmax(-1)
        with torch.no_grad():
            self.seen += scores.sum()
        return self.head(torch.einsum("bij,bjc->bic", F.dropout(scores, 0.1, self.training), self.value(x)).mean(1))


class Masks(nn.Module):
    """Attention, twice, with two masks of -inf: `state_dict()` has the causal one, under two names, and not the one of far
    words."""

    def __init__(self, words=20, width=6, length=5, classes=3):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.query, self.key, self.head = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, classes)
        everywhere = torch.full((length, length), float("-inf"))
        self.register_buffer("causal", everywhere.triu(1))
        self.register_buffer("causal_too", self.causal)
        self.register_buffer("far", everywhere.tril(-3), persistent=False)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for causal in (self.causal, self.causal_too):
            scores = torch.matmul(self.query(x), self.key(x).transpose(1, 2)) + causal + self.far
            x = torch.matmul(F.dropout(scores.softmax(-1), 0.1, self.training), x)
        return self.head(x.mean(1))


class Norms(nn.Module):
    """GroupNorm, InstanceNorm, LayerNorm over channels, PReLU, weight norm."""

    def __init__(self, channels=3, width=8, classes=10):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(2, width), nn.PReLU())
        self.second = nn.utils.parametrizations.weight_norm(nn.Conv2d(width, width, 3, padding=1))
        self.instance = nn.InstanceNorm2d(width, affine=True, track_running_stats=True)
        self.layer, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x):
        x = self.instance(self.second(self.first(x))).relu()
        return self.head(self.layer(x.permute(0, 2, 3, 1)).mean((1, 2)))


class Fourier(nn.Module):
    """A filter over frequencies: complex numbers inside, real ones outside."""

    def __init__(self, inputs=20, classes=10):
        super().__init__()
        self.inputs = inputs
        self.filter = nn.Parameter(torch.linspace(-1, 1, inputs // 2 + 1))
        self.head = nn.Linear(inputs, classes)

    def forward(self, x):
        return self.head(torch.fft.irfft(torch.fft.rfft(x) * self.filter, n=self.inputs))


class Pyramid(nn.Module):
    """torchvision's ResNet-18 with a feature pyramid, as a detector has it, and a class from all levels."""

    def __init__(self, classes=10):
        super().__init__()
        from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
        self.backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5)
        self.head = nn.Linear(self.backbone.out_channels, classes)

    def forward(self, x):
        return self.head(sum(level.mean((2, 3)) for level in self.backbone(x).values()))


class Segmentation(nn.Module):
    """torchvision's LR-ASPP on MobileNet: its scores for each pixel."""

    def __init__(self, classes=4):
        super().__init__()
        from torchvision.models.segmentation import lraspp_mobilenet_v3_large
        self.net = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes)

    def forward(self, x):
        return self.net(x)["out"]


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def vectors(inputs=20, classes=3):
    def data(count):
        draw = generator()
        return {"x": torch.randn(count, inputs, generator=draw), "y": torch.randint(classes, (count,), generator=draw)}
    return data


def images(size, channels=3, classes=10):
    def data(count):
        draw = generator()
        return {"x": torch.randn(count, channels, size, size, generator=draw), "y": torch.randint(classes, (count,), generator=draw)}
    return data


def tokens(words=50, length=12, classes=10):
    def data(count):
        draw = generator()
        return {"tokens": torch.randint(words, (count, length), generator=draw), "y": torch.randint(classes, (count,), generator=draw)}
    return data


def text(words=65, length=32):
    """Tokens, and for each the one that follows."""
    def data(count):
        drawn = torch.randint(words, (count, length + 1), generator=generator())
        return {"tokens": drawn[:, :-1].contiguous(), "y": drawn[:, 1:].contiguous()}
    return data


def numbers(width=12):
    """Numbers, and the numbers themselves as target."""
    def data(count):
        drawn = torch.randn(count, width, generator=generator())
        return {"x": drawn, "y": drawn.clone()}
    return data


def pixels(size=32, channels=3, classes=4):
    def data(count):
        draw = generator()
        return {"x": torch.randn(count, channels, size, size, generator=draw), "y": torch.randint(classes, (count, size, size), generator=draw)}
    return data


def image_and_numbers(size=8, channels=1, beside=3, classes=3):
    def data(count):
        draw = generator()
        return {"image": torch.randn(count, channels, size, size, generator=draw), "numbers": torch.randn(count, beside, generator=draw),
                "y": torch.randint(classes, (count,), generator=draw)}
    return data


def vectors_and_sizes(inputs=8, classes=3, sizes=2):
    def data(count):
        draw = generator()
        return {"x": torch.randn(count, inputs, generator=draw), "size": torch.randn(count, sizes, generator=draw),
                "y": torch.randint(classes, (count,), generator=draw)}
    return data


def vision(name, **arguments):
    """A classifier of torchvision, without pretrained weights."""
    def make():
        import torchvision
        return getattr(torchvision.models, name)(**{"num_classes": 10, **arguments})
    return make


def small_vit():
    import torchvision
    return torchvision.models.VisionTransformer(image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=64, mlp_dim=128, dropout=0.1, num_classes=10)


SLOW = 0.002
"""The rate for deep networks that begin with random weights."""

ZOO = {
    "mlp": Case(Mlp, vectors()),
    "cnn": Case(Cnn, images(32)),
    "notebook": Case(Notebook, images(28, channels=1), loss="nll", momentum=0.5),
    "gpt": Case(Gpt, text()),
    "encoder": Case(Encoder, tokens(100, 16, 2)),
    "lstm": Case(Recurrent, tokens()),
    "gru": Case(lambda: Recurrent(nn.GRU), tokens()),
    "unet": Case(UNet, pixels()),
    "tied": Case(Tied, numbers(), loss="mse"),
    "step_loss": Case(lambda: StepLoss(Cnn()), images(32), loss=None),
    "step_metrics": Case(lambda: StepMetrics(Mlp()), vectors(), loss=None),
    "two_inputs": Case(TwoInputs, image_and_numbers()),
    "two_targets": Case(TwoTargets, vectors_and_sizes(), loss=None),
    "branch": Case(Branch, vectors(8)),
    "masked": Case(Masked, tokens()),
    "norms": Case(Norms, images(16)),
    "fourier": Case(Fourier, vectors(20, 10)),
    "resnet18": Case(vision("resnet18"), images(32), rate=SLOW),
    "mobilenet_v3_small": Case(vision("mobilenet_v3_small"), images(32), rate=SLOW),
    "efficientnet_b0": Case(vision("efficientnet_b0"), images(32), rate=SLOW),
    "densenet121": Case(vision("densenet121"), images(32), rate=SLOW),
    "convnext_tiny": Case(vision("convnext_tiny"), images(32), rate=SLOW),
    "regnet_y_400mf": Case(vision("regnet_y_400mf"), images(32), rate=SLOW),
    "vit": Case(small_vit, images(32), rate=SLOW),
    "swin_t": Case(vision("swin_t"), images(32), rate=SLOW),
    "googlenet": Case(vision("googlenet", aux_logits=False, init_weights=False), images(32), rate=SLOW),
    "shufflenet_v2_x0_5": Case(vision("shufflenet_v2_x0_5"), images(32), rate=SLOW),
    "squeezenet1_1": Case(vision("squeezenet1_1"), images(64), rate=SLOW),
    "mnasnet0_5": Case(vision("mnasnet0_5"), images(32), rate=SLOW),
    "fpn": Case(Pyramid, images(64), rate=SLOW),
    "lraspp": Case(Segmentation, pixels(64), rate=SLOW),
}

SMALL = {
    "mlp": Case(lambda: Mlp(8, 16), vectors(8)),
    "cnn": Case(lambda: Cnn(1, 4, 3), images(8, 1, 3)),
    "gpt": Case(lambda: Gpt(words=17, width=16, heads=2, layers=1, context=8), text(17, 8)),
    "encoder": Case(lambda: Encoder(words=20, width=8, heads=2, layers=1), tokens(20, 6, 2)),
    "lstm": Case(lambda: Recurrent(words=20, width=6, classes=3), tokens(20, 5, 3)),
    "tied": Case(Tied, numbers(), loss="mse"),
    "step_loss": Case(lambda: StepLoss(Mlp(8, 12)), vectors(8), loss=None),
    "step_metrics": Case(lambda: StepMetrics(Mlp(8, 12)), vectors(8), loss=None),
    "two_inputs": Case(TwoInputs, image_and_numbers()),
    "branch": Case(Branch, vectors(8)),
    "masks": Case(Masks, tokens(20, 5, 3)),
}
"""Those of which archives are committed, in `tests/data/exported/`."""
