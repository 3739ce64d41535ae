"""What works on this machine: packages, processor, runtime, disk, tried and not assumed."""

import importlib.metadata
import importlib.util
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from autocompress.commands.techniques import kept_costs, measure_and_keep, measuring_command
from autocompress.errors import AutocompressError
from autocompress.events import Observer, Silence
from autocompress.export.calibrate import Seen
from autocompress.export.onnx_file import to_onnx
from autocompress.export.quantize_onnx import quantize_onnx
from autocompress.facts import Facts
from autocompress.graph.surgery import example_input
from autocompress.hardware.int8_activations import choice_for
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
    """All checks; ``healthy`` when a run can be expected to work. ``machine`` is as runs take it."""

    healthy: bool
    checks: tuple[Check, ...]
    machine: Machine
    versions: dict[str, str]


def doctor(*, techniques: bool = False, threads: int = 1, observer: Observer | None = None) -> Diagnosis:
    """Try what a run needs; takes about ten seconds.

    What it leaves behind lies in the user's cache folder (``hardware.kept``): which type of int8 activations is fast
    here, if that was not settled yet, and on request what techniques save.

    Args:
        techniques: measure what each technique saves on a few layers, too; takes about a minute more.
        threads: of the runtime, for the techniques.
        observer: told of what is being tried.
    """
    observer = observer or Silence()
    choice = choice_for(this_machine(), observer, try_again=True)
    machine = this_machine().model_copy(update={"int8_activations": choice.chosen})
    attempts = dict(_ATTEMPTS)
    attempts["export and int8"] = lambda: f"{_int8(machine)}; {choice}"
    if techniques:
        attempts["techniques"] = lambda: _measure_techniques(machine, observer, threads)
    checks = []
    for place, (name, act) in enumerate(attempts.items()):
        observer.progress(place, len(attempts), name)
        checks.append(_tried(name, act))
    return Diagnosis(
        healthy=all(check.works for check in checks),
        checks=(*checks, *_extras(), *([] if techniques else [_savings(threads)])),
        machine=machine,
        versions=package_versions(),
    )


def _measure_techniques(machine: Machine, observer: Observer, threads: int) -> str:
    costs = measure_and_keep(machine, observer, threads=threads)
    return f"measured in {costs.seconds:.0f} s; autocompress techniques shows what each saves here"


def _savings(threads: int) -> Check:
    """Whether it is known what techniques save; a run does not need it."""
    kept = kept_costs(threads)
    if kept is None:
        detail = f"not measured yet; {measuring_command(threads)} does, in about a minute"
    else:
        detail = f"measured {kept.measured_at}; autocompress techniques shows what each saves here"
    return Check(name="optional: techniques", works=kept is not None, detail=detail)


def _tried(name: str, act: Callable[[], str]) -> Check:
    try:
        return Check(name=name, works=True, detail=act())
    except (AutocompressError, ImportError, OSError, RuntimeError, ValueError) as error:
        return Check(name=name, works=False, detail=f"{type(error).__name__}: {error}")


def _torch_pair() -> str:
    """Torchvision's operators load only into the torch release that it was built for."""
    import torchvision  # noqa: PLC0415  # its failure is what is tried

    return f"torch {torch.__version__} with torchvision {torchvision.__version__}"


def _int8(machine: Machine) -> str:
    """The speed of one convolution in both formats, as the runtime runs it here."""
    layer = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1)).eval()
    preprocess = Preprocess(layout=Layout.IMAGE, shape=(64, 28, 28))
    proto = to_onnx(layer, preprocess, 1)
    seen = Seen(inputs=example_input(preprocess.shape, batch=8).numpy(), batch=1)
    quantized = quantize_onnx(proto, FilePlan(default=INT8), seen, machine)
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        files = [Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")]
        for file, model in zip(files, (proto, quantized), strict=True):
            file.write_bytes(model.SerializeToString())
        fp32, int8 = measure_latency(files, Target(), rounds=6, window_ms=30.0)
    ratio = fp32.median_ms / int8.median_ms
    return f"{ratio:.1f}× the speed of fp32 on a 3×3 convolution, one thread"


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
    "timing": _timing,
    "ray": _ray,
    "disk": _disk,
}
