"""Tiny networks, one for each way in which layers hang together; random weights, the same in every run.

``TINY_MODELS`` maps a name to its factory and the shape of one input; every network has four outputs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

N_OUTPUTS = 4
IMAGE = (3, 16, 16)


def conv_norm(c_in: int, c_out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution without bias and its BatchNorm."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


class Pooled(nn.Module):
    """Features, their mean over all positions, a linear head."""

    def __init__(self, features: nn.Module, width: int) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(width, N_OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(2).mean(2))


def plain() -> nn.Module:
    """Convolutions with bias, the last one flattened: each channel feeds sixteen inputs of the head."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, N_OUTPUTS),
    )


class Block(nn.Module):
    """A residual block; the shortcut is projected where the width changes."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv_norm(c_in, c_out, 3, stride)
        self.conv2 = conv_norm(c_out, c_out)
        self.shortcut = conv_norm(c_in, c_out, 1, stride) if (c_in, stride) != (c_out, 1) else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


def residual() -> nn.Module:
    """Two residual blocks after a stem: the stem, one shortcut and the projection couple layers."""
    stem = conv_norm(3, 8)
    return Pooled(nn.Sequential(stem, nn.ReLU(), Block(8, 8, 1), Block(8, 16, 2)), 16)


def deep_residual() -> nn.Module:
    """Three residual blocks of equal structure, whose ends are all coupled with the stem."""
    return Pooled(nn.Sequential(conv_norm(3, 8, 3, 2), nn.ReLU(), *(Block(8, 8, 1) for _ in range(3))), 8)


class PaddedBlock(nn.Module):
    """A block whose shortcut pads channels by a fixed number, as ResNets for CIFAR do (option A)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv_norm(c_in, c_out, 3, 2), conv_norm(c_out, c_out)
        self.more = c_out - c_in

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more // 2, self.more // 2))
        return F.relu(self.conv2(F.relu(self.conv1(x))) + shortcut)


def padded_shortcut() -> nn.Module:
    """A CIFAR ResNet in small: option-A shortcut, where only the inner widths of blocks are free."""
    return Pooled(nn.Sequential(conv_norm(3, 8), nn.ReLU(), PaddedBlock(8, 16), Block(16, 16, 1)), 16)


def depthwise() -> nn.Module:
    """MobileNet's pair: expand, depthwise, project."""
    return Pooled(
        nn.Sequential(
            conv_norm(3, 8, 3, 2),
            nn.ReLU(),
            conv_norm(8, 24, 1),
            nn.ReLU6(),
            conv_norm(24, 24, 3, 1, groups=24),
            nn.ReLU6(),
            conv_norm(24, 16, 1),
        ),
        16,
    )


def grouped() -> nn.Module:
    """ResNeXt's middle: a convolution in two groups between full ones."""
    return Pooled(
        nn.Sequential(
            conv_norm(3, 16, 3, 2), nn.ReLU(), conv_norm(16, 16, 3, 1, groups=2), nn.ReLU(), conv_norm(16, 8, 1)
        ),
        8,
    )


class Concat(nn.Module):
    """Two branches of unlike width side by side, and then the input once more (dense connection)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 8, 3, 2)
        self.left, self.right = conv_norm(8, 8), conv_norm(8, 16, 1)
        self.joined = conv_norm(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        both = torch.cat([F.relu(self.left(x)), F.relu(self.right(x))], 1)
        return F.relu(self.joined(torch.cat([both, x], 1)))


class SqueezeExcite(nn.Module):
    """Channels weighted by a small network on their means."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(width, inner, 1), nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(scale)


def squeeze_excite() -> nn.Module:
    """A convolution whose channels a squeeze-excite module weighs."""
    return Pooled(nn.Sequential(conv_norm(3, 16, 3, 2), nn.ReLU(), SqueezeExcite(16, 8), conv_norm(16, 8)), 8)


class Attention(nn.Module):
    """Self-attention of two heads, as timm writes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), 2

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, width))


class ViT(nn.Module):
    """Patches, one transformer block, a pooled head."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, 4, 4)
        self.position = nn.Parameter(torch.randn(1, 16, width) * 0.1)
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width)
        self.norm2, self.fc1, self.fc2 = nn.LayerNorm(width), nn.Linear(width, 32), nn.Linear(32, width)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, N_OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2) + self.position
        x = x + self.attention(self.norm1(x))
        x = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return self.head(self.norm(x).mean(1))


class Heads(nn.Module):
    """Self-attention that keeps its numbers of heads and of channels, as timm's does."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim = heads, width // heads, width
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, self.attn_dim))


class SplitHeads(nn.Module):
    """The same with a layer each for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.depth = heads, width // heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:2], self.heads, self.depth)
        q, k, v = (layer(x).view(shape).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Attention and an MLP, each added to the stream of tokens."""

    def __init__(self, width: int, attention: nn.Module) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(width), attention, nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class BlockViT(nn.Module):
    """Patches, a class token, two transformer blocks, a pooled head."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, 4, 4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.1)
        self.position = nn.Parameter(torch.randn(1, 17, width) * 0.1)
        self.blocks = nn.Sequential(
            TransformerBlock(width, Heads(width, 4)), TransformerBlock(width, SplitHeads(width, 4))
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, N_OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x)).mean(1))


class Series(nn.Module):
    """A classifier on series ``[n, 10, 6]``: a layer, the recurrent one, its last state or its mean over time."""

    def __init__(self, recurrent: nn.RNNBase, last: bool) -> None:
        super().__init__()
        self.embed, self.recurrent, self.last = nn.Linear(6, recurrent.input_size), recurrent, last
        ways = 2 if recurrent.bidirectional else 1
        self.head = nn.Linear(recurrent.hidden_size * ways, N_OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.embed(x))
        if not self.recurrent.batch_first:
            x = x.transpose(0, 1)
        out, states = self.recurrent(x)
        if self.last:
            return self.head((states[0] if isinstance(states, tuple) else states)[-1])
        return self.head(out.mean(1 if self.recurrent.batch_first else 0))


def group_norm() -> nn.Module:
    """Channels normalized in four parts, then as one."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1),
        nn.GroupNorm(4, 32),
        nn.ReLU(),
        nn.Conv2d(32, 8, 3, 2, 1),
        nn.GroupNorm(1, 8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, N_OUTPUTS),
    )


class Tied(nn.Module):
    """Two layers that hold one weight, and one layer that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.again = nn.Conv2d(8, 8, 3, 1, 1)
        self.one, self.other = nn.Linear(8, 8), nn.Linear(8, 8)
        self.other.weight = self.one.weight
        self.head = nn.Linear(8, N_OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.again(F.relu(self.again(F.relu(self.stem(x))))))
        return self.head(F.relu(self.other(F.relu(self.one(x.mean((2, 3)))))))


def conv1d() -> nn.Module:
    """A network on series ``[n, 2, 24]``."""
    return Pooled(
        nn.Sequential(
            nn.Conv1d(2, 8, 5, 2, 2),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.Conv1d(8, 16, 3, 1, 1),
            nn.BatchNorm1d(16),
            nn.ReLU(),
        ),
        16,
    )


def mlp() -> nn.Module:
    """Linear layers on vectors, with dropout."""
    return nn.Sequential(
        nn.Linear(12, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, N_OUTPUTS)
    )


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """A factory and the shape of one input."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...] = IMAGE


_ALL = {
    "plain": Tiny(make=plain),
    "residual": Tiny(make=residual),
    "deep residual": Tiny(make=deep_residual),
    "padded shortcut": Tiny(make=padded_shortcut),
    "depthwise": Tiny(make=depthwise),
    "grouped": Tiny(make=grouped),
    "concat": Tiny(make=lambda: Pooled(Concat(), 16)),
    "squeeze-excite": Tiny(make=squeeze_excite),
    "group norm": Tiny(make=group_norm),
    "vit": Tiny(make=ViT),
    "tied": Tiny(make=Tied),
    "conv1d": Tiny(make=conv1d, shape=(2, 24)),
    "mlp": Tiny(make=mlp, shape=(12,)),
    "vit blocks": Tiny(make=BlockViT),
    "lstm": Tiny(make=lambda: Series(nn.LSTM(8, 12, 2, batch_first=True), last=True), shape=(10, 6)),
    "gru": Tiny(make=lambda: Series(nn.GRU(8, 12, bidirectional=True), last=False), shape=(10, 6)),
}


def _lively(make: Callable[[], nn.Module]) -> nn.Module:
    """The model in eval mode, its norms with statistics and weights that a wrong channel would show in."""
    torch.manual_seed(0)
    model = make()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return model.eval()


def tiny(name: str, **changes: int) -> nn.Module:
    """A fresh network, the same for the same name; some take changes."""
    return _lively(partial(_ALL[name].make, **changes))


def shape_of(name: str) -> tuple[int, ...]:
    """The shape of one input."""
    return _ALL[name].shape


def inputs_of(name: str, n: int = 2, seed: int = 1) -> Tensor:
    """A batch of noise."""
    return torch.randn((n, *shape_of(name)), generator=torch.Generator().manual_seed(seed))


TINY_MODELS = tuple(_ALL)
