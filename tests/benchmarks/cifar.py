"""What the benchmarks on CIFAR-10 share: the data, small networks, and their trained weights, kept in a folder.

The data is a folder of class folders, or of ``train`` and ``test`` with them; it is not part of the repository.
"""

import argparse
import sys
import time
from pathlib import Path

import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autocompress.commands.baseline import measure_pace
from autocompress.data.load import load_task
from autocompress.data.preprocess import with_input_size
from autocompress.facts import write_whole
from autocompress.hardware.machine import this_machine
from autocompress.recipe import Recovery
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.train import train_baseline
from autocompress.target import Target
from autocompress.trial import Bench, accuracy_of

BATCH = 64


def _conv(c_in: int, c_out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(c_out))


class DepthwiseBlock(nn.Module):
    """Expand, depthwise, project, as in MobileNetV2; a shortcut where the shape stays."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        inner = 4 * c_in
        self.expand, self.middle = _conv(c_in, inner, 1), _conv(inner, inner, 3, stride, inner)
        self.project = _conv(inner, c_out, 1)
        self.keeps = (c_in, stride) == (c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(F.hardswish(self.middle(F.hardswish(self.expand(x)))))
        return x + y if self.keeps else y


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut, as in ResNet."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _conv(c_in, c_out, 3, stride), _conv(c_out, c_out)
        self.shortcut = nn.Identity() if (c_in, stride) == (c_out, 1) else _conv(c_in, c_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


def _network(block: type[nn.Module], widths: tuple[int, ...], each: int, stride: int) -> nn.Module:
    layers: list[nn.Module] = [_conv(3, widths[0], 3, stride), nn.ReLU()]
    c_in = widths[0]
    for stage, width in enumerate(widths):
        for place in range(each):
            layers.append(block(c_in, width, 2 if stage and not place else 1))
            c_in = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, 10))


def residual_9() -> nn.Module:
    """A smaller ResNet-20: its images are halved at once."""
    return _network(ResidualBlock, (16, 32, 64), 3, stride=2)


def residual_20() -> nn.Module:
    """The ResNet-20 of He et al. 2016, with 272 k parameters; https://arxiv.org/abs/1512.03385, sec. 4.2."""
    return _network(ResidualBlock, (16, 32, 64), 3, stride=1)


NETWORKS = {
    "depthwise": lambda: _network(DepthwiseBlock, (24, 48, 96), 2, stride=2),
    "residual": lambda: _network(ResidualBlock, (16, 32, 64), 2, stride=1),
    "residual_9": residual_9,
    "residual_20": residual_20,
    "mobilenetv3_small_050": lambda: timm.create_model("mobilenetv3_small_050", num_classes=10),
}
TRAINING = {  # steps, learning rate, image size
    "depthwise": (3000, 4e-3, 32),
    "residual": (3000, 4e-3, 32),
    "residual_9": (4000, 4e-3, 32),
    "residual_20": (2000, 4e-3, 32),
    "mobilenetv3_small_050": (4000, 3e-3, 64),
}


def arguments(about: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark here has."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 as a folder of train/ and test/ with class folders")
    parser.add_argument("--cache", type=Path, default=Path("runs/benchmarks"), help="where trained weights are kept")
    parser.add_argument("--steps", type=int, default=300, help="of each recovery, batch 64")
    return parser


def bench_of(name: str, options: argparse.Namespace) -> tuple[Bench, float]:
    """The trained network with its task, and the seconds that its training took (0 when it was kept)."""
    steps, rate, size = TRAINING[name]
    task = with_input_size(load_task(options.data), size)
    torch.manual_seed(0)
    model = NETWORKS[name]()
    kept, started = options.cache / f"{name}.safetensors", time.monotonic()
    if kept.is_file():
        model.load_state_dict(safetensors.torch.load(kept.read_bytes()))
    else:
        stream = SampleStream(task, 0)
        faster = measure_pace(model, stream, this_machine().cores).arithmetic
        settings = Recovery(steps=steps, batch=BATCH, learning_rate=rate, weight_decay=0.05, arithmetic=faster)
        train_baseline(model, stream, settings, progress=_show)
        write_whole(
            kept, safetensors.torch.save({key: value.contiguous() for key, value in model.state_dict().items()})
        )
    bench = Bench(base=model.eval(), task=task, target=Target(), machine=this_machine())
    return bench, time.monotonic() - started


def accuracy(file: bytes, bench: Bench) -> float:
    """Of the exported file in ONNX Runtime, on the whole test split, in points."""
    return 100 * accuracy_of(file, bench.task, "test", threads=bench.machine.cores).value


def _show(step: int, steps: int) -> None:
    if step % 100 == 0:
        print(f"training: {step}/{steps} steps", file=sys.stderr, flush=True)
