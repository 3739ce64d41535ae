"""Carry out one recipe, twice, and see that the files are the same.

Run it as ``python examples/replay_recipe.py --out runs/replay``.
"""

import argparse
from pathlib import Path

import autocompress as ac

RECIPE = Path(__file__).with_name("recipe.yaml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="runs/replay")
    parser.add_argument("--time", default="30s", help="bounds the training of the baseline")
    arguments = parser.parse_args()
    out, options = Path(arguments.out), ac.DataOptions(input_size=32)

    first = ac.apply(RECIPE, "resnet10t", "digits", out / "first", time=arguments.time, options=options, overwrite=True)
    second = ac.apply(
        RECIPE,
        "resnet10t",
        "digits",
        out / "second",
        checkpoint=out / "first/baseline/model.safetensors",
        options=options,
        overwrite=True,
    )

    files = [Path(applied.folder, "model.onnx").read_bytes() for applied in (first, second)]
    print(f"{first.baseline.size_bytes} → {first.facts.size_bytes} bytes; the same file twice: {files[0] == files[1]}")
    for layer, what in first.changed.items():
        print(f"{layer}: {what}")


if __name__ == "__main__":
    main()
