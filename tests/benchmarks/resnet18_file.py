"""The whole file of a ResNet-18 at 224×224 by each form of storage: bytes against fp32, load, latency. Prints JSON.

``python tests/benchmarks/resnet18_file.py``; minutes, with nothing else running. The weights are random, as drawn for
training: bytes and kernels do not depend on them. All files are measured in turns, one thread; ``a_a_floor`` says from
where on a difference means anything.
"""

import json
import tempfile
import time
from pathlib import Path
from statistics import median

import onnxruntime as ort
import timm
import torch
from torch import nn

from autocompress.export.calibrate import Seen
from autocompress.export.write_file import draft
from autocompress.graph.layer_table import WEIGHTED
from autocompress.hardware.latency import a_a_floor, measure_latency
from autocompress.hardware.machine import this_machine
from autocompress.passes import PassContext
from autocompress.passes.compose import compose
from autocompress.recipe import PassStep, Recipe
from autocompress.target import Target
from autocompress.task import Layout, Preprocess

SIZE = 224


def recipes(model: nn.Module) -> dict[str, list[PassStep]]:
    """Label → passes."""
    layers = [name for name, module in model.named_modules() if isinstance(module, WEIGHTED)]

    def codebook(bits: int) -> PassStep:
        return PassStep(name="share_weights", settings={"layers": {name: {"bits": bits} for name in layers}})

    def quantize(weights: str, activations: str = "fp32") -> PassStep:
        return PassStep(name="quantize", settings={"default": {"weights": weights, "activations": activations}})

    sparse = PassStep(name="prune_weights", settings={"layers": {name: {"sparsity": 0.9} for name in layers}})
    return {
        "fp32": [],
        "fp16 storage": [quantize("fp16")],
        "int8 static": [quantize("int8", "int8")],
        "int8 weights": [quantize("int8")],
        "int4 weights": [quantize("int4")],
        "int4 weights, int8 arithmetic": [quantize("int4", "int8")],
        "2-bit codebook": [codebook(2)],
        "4-bit codebook": [codebook(4)],
        "4-bit codebook, int8 arithmetic": [codebook(4), quantize("int8", "int8")],
        "90 % sparse": [sparse],
        "90 % sparse, 4-bit codebook, int8 arithmetic": [sparse, codebook(4), quantize("int8", "int8")],
    }


def main() -> None:
    """Write the files, measure them, print."""
    torch.manual_seed(0)
    torch.set_num_threads(this_machine().cores)
    model = timm.create_model("resnet18", zero_init_last=False).eval()
    preprocess = Preprocess(layout=Layout.IMAGE, shape=(3, SIZE, SIZE), mean=(0.5,) * 3, std=(0.25,) * 3)
    seen = Seen(inputs=torch.randn(8, 3, SIZE, SIZE).numpy(), batch=1)
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        files = {}
        for place, (label, steps) in enumerate(recipes(model).items()):
            composed = compose(model, Recipe(passes=tuple(steps)), PassContext(example=torch.zeros(1, 3, SIZE, SIZE)))
            made = draft(
                composed.model,
                composed.plan,
                composed.constraints,
                seen,
                preprocess=preprocess,
                machine=this_machine(),
            )
            files[label] = Path(folder, f"{place}.onnx")
            files[label].write_bytes(made.finished())
        floor = a_a_floor(files["fp32"], Target())
        measured = measure_latency(list(files.values()), Target(), rounds=12, window_ms=150.0)
        fp32 = files["fp32"].stat().st_size, measured[0].median_ms
        for (label, file), latency in zip(files.items(), measured, strict=True):
            found[label] = {
                "bytes": file.stat().st_size,
                "of_fp32_bytes": round(file.stat().st_size / fp32[0], 4),
                "load_ms": round(_load_ms(file), 1),
                "latency_ms": round(latency.median_ms, 3),
                "times_faster": round(fp32[1] / latency.median_ms, 3),
            }
    print(json.dumps({"a_a_floor": round(floor, 4), "noisy": any(x.noisy for x in measured), "files": found}, indent=2))


def _load_ms(file: Path) -> float:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    times = []
    for _ in range(5):
        started = time.perf_counter()
        ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        times.append(1000 * (time.perf_counter() - started))
    return median(times)


if __name__ == "__main__":
    main()
