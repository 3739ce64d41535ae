"""What rounding costs a depthwise network on CIFAR-10, and what training with the roundings wins back. Prints JSON.

``python tests/benchmarks/quantization_aware.py --data cifar10-jpeg``; the first run trains the network, for minutes.
Every accuracy is of an exported file in ONNX Runtime on the 10,000 test images, but for those of the
trained network in PyTorch.
"""

import json

import numpy as np
import torch
from cifar import BATCH, NETWORKS, accuracy, arguments, bench_of

from autocompress.data.preprocess import model_input
from autocompress.recipe import Distill, PassStep, Recipe, Recovery
from autocompress.trial import Bench, Made, export_base, make_model

INT8 = {"weights": "int8", "activations": "int8"}
SETTINGS = {
    "int8": {"default": INT8},
    "int8, mse ranges": {"default": INT8, "calibration": "mse"},
    "int8, percentile ranges": {"default": INT8, "calibration": "percentile"},
    "int8, entropy ranges": {"default": INT8, "calibration": "entropy"},
    "int8, biases corrected": {"default": INT8, "correct_bias": True},
    "int4 weights": {"default": {"weights": "int4", "activations": "int8"}},
    "int3 weights": {"default": {"weights": "int3", "activations": "int8"}},
}
AWARE = ("int8", "int8, entropy ranges", "int4 weights", "int3 weights")


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--network", choices=NETWORKS, default="mobilenetv3_small_050")
    parser.add_argument("--rows", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    options = parser.parse_args()
    bench, seconds = bench_of(options.network, options)
    fp32 = accuracy(export_base(bench), bench)
    print("fp32", fp32, flush=True)
    found: dict[str, object] = {
        "fp32": round(fp32, 2),
        "training_s": round(seconds),
        "test_images": len(bench.task.test),
    }
    for name in options.rows:
        made = make_model(bench, _recipe(SETTINGS[name], 0, aware=False), threads=bench.machine.cores)
        found[f"{name}, no training"] = {"accuracy": round(accuracy(made.file, bench), 2), "bytes": len(made.file)}
        print(name, found[f"{name}, no training"], flush=True)
    for name in (row for row in AWARE if row in options.rows):
        for aware in (False, True):
            made = make_model(bench, _recipe(SETTINGS[name], options.steps, aware=aware), threads=bench.machine.cores)
            row = {"accuracy": round(accuracy(made.file, bench), 2), "bytes": len(made.file), "seconds": made.seconds}
            if aware:
                row["accuracy_in_pytorch"] = round(_in_pytorch(made, bench), 2)
            found[f"{name}, {options.steps} steps{' aware' if aware else ''}"] = row
            print(name, row, flush=True)
    print(json.dumps(found, indent=2))


def _recipe(settings: dict[str, object], steps: int, *, aware: bool) -> Recipe:
    recovery = Recovery(steps=steps, batch=BATCH, distill=Distill(logits=0.9), quantize_aware=aware)
    return Recipe(passes=(PassStep(name="quantize", settings=settings),), recovery=recovery)


@torch.no_grad()
def _in_pytorch(made: Made, bench: Bench) -> float:
    test = bench.task.test
    parts = [
        made.model(torch.from_numpy(model_input(bench.task.preprocess, test.inputs[i : i + 250]))).argmax(1).numpy()
        for i in range(0, len(test), 250)
    ]
    return 100 * float(np.mean(np.concatenate(parts) == test.targets))


if __name__ == "__main__":
    main()
