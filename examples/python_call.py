"""Compress a timm network on the built-in digits, from Python.

Run it as ``python examples/python_call.py --out runs/python-call --time 2m``.
"""

import argparse

import autocompress as ac


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="runs/python-call")
    parser.add_argument("--time", default="2m")
    arguments = parser.parse_args()

    result = ac.compress(
        "resnet10t",
        "digits",
        ac.Budget(latency="70%", size="40%"),
        out=arguments.out,
        time=arguments.time,
        options=ac.DataOptions(input_size=32),
        overwrite=True,
    )

    print(result.verdict)
    for row in result.budget:
        print(f"{row.text}: {row.value} against {row.limit}, {'met' if row.met else 'not met'}")
    model = ac.load(arguments.out)  # a trainable torch.nn.Module
    print(sum(parameter.numel() for parameter in model.parameters()), "parameters")


if __name__ == "__main__":
    main()
