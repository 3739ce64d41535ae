"""What works on this machine: packages, processor, runtime, disk, tried and not assumed."""

import importlib.metadata
import importlib.util
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from autocompress.errors import AutocompressError
from autocompress.export.calibrate import Seen
from autocompress.export.onnx_file import to_onnx
from autocompress.export.quantize_onnx import quantize_onnx
from autocompress.facts import Facts
from autocompress.graph.surgery import example_input
from autocompress.hardware.latency import measure_latency
from autocompress.hardware.machine import package_versions, this_machine
from autocompress.precision import INT8, FilePlan
from autocompress.target import Machine, Target
from autocompress.task import Layout, Preprocess

_OPTIONAL = {"optuna_dashboard": "dashboard"}
_LEAST_DISK_BYTES = 2 * 10**9


class Check(Facts):
    """One thing that was tried."""

    name: str
    works: bool
    detail: str


class Diagnosis(Facts):
    """All checks; ``healthy`` when a run can be expected to work."""

    healthy: bool
    checks: tuple[Check, ...]
    machine: Machine
    versions: dict[str, str]


def doctor() -> Diagnosis:
    """Try what a run needs; takes about ten seconds and leaves nothing behind."""
    checks = tuple(_tried(name, act) for name, act in _ATTEMPTS.items())
    return Diagnosis(
        healthy=all(check.works for check in checks),
        checks=checks + tuple(_extras()),
        machine=this_machine(),
        versions=package_versions(),
    )


def _tried(name: str, act: Callable[[], str]) -> Check:
    try:
        return Check(name=name, works=True, detail=act())
    except (AutocompressError, ImportError, OSError, RuntimeError, ValueError) as error:
        return Check(name=name, works=False, detail=f"{type(error).__name__}: {error}")


def _torch_pair() -> str:
    """Torchvision's operators load only into the torch release that it was built for."""
    import torchvision  # noqa: PLC0415  # its failure is what is tried

    return f"torch {torch.__version__} with torchvision {torchvision.__version__}"


def _int8() -> str:
    """The speed of one convolution in both formats, as the runtime runs it here."""
    layer = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1)).eval()
    preprocess = Preprocess(layout=Layout.IMAGE, shape=(64, 28, 28))
    proto = to_onnx(layer, preprocess, 1)
    seen = Seen(inputs=example_input(preprocess.shape, batch=8).numpy(), batch=1)
    quantized = quantize_onnx(proto, FilePlan(default=INT8), seen, this_machine())
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        files = [Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")]
        for file, model in zip(files, (proto, quantized), strict=True):
            file.write_bytes(model.SerializeToString())
        fp32, int8 = measure_latency(files, Target(), rounds=6, window_ms=30.0)
    ratio = fp32.median_ms / int8.median_ms
    activations = this_machine().int8_activations
    return f"{activations} activations, int8 weights: {ratio:.1f}× the speed of fp32 on a 3×3 convolution, one thread"


def _timing() -> str:
    layer = nn.Conv2d(32, 32, 3, padding=1)
    proto = to_onnx(layer, Preprocess(layout=Layout.IMAGE, shape=(32, 28, 28)), 1)
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        files = [Path(folder, name) for name in ("a.onnx", "b.onnx")]
        for file in files:
            file.write_bytes(proto.SerializeToString())
        first, second = measure_latency(files, Target(), rounds=6, window_ms=30.0)
    floor = abs(first.median_ms / second.median_ms - 1)
    noisy = " (noisy: something else is running)" if first.noisy or second.noisy else ""
    return f"the same file measured as two differs by {floor:.1%}{noisy}"


def _ray() -> str:
    found = importlib.metadata.version("ray")
    return f"ray {found} is installed; runs start their own cluster"


def _disk() -> str:
    free = shutil.disk_usage(Path.cwd()).free
    if free < _LEAST_DISK_BYTES:
        raise OSError(f"{free // 10**6} MB free here; a run on a large model may need 2000 MB")
    return f"{free / 10**9:.0f} GB free here"


def _extras() -> list[Check]:
    return [
        Check(
            name=f"optional: {extra}",
            works=importlib.util.find_spec(module) is not None,
            detail=f"pip install 'autocompress[{extra}]'",
        )
        for module, extra in _OPTIONAL.items()
    ]


_ATTEMPTS: dict[str, Callable[[], str]] = {
    "torch and torchvision": _torch_pair,
    "export and int8": _int8,
    "timing": _timing,
    "ray": _ray,
    "disk": _disk,
}
