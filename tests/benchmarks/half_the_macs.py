"""Channel pruning, Tucker-2 and both SVDs at half the MACs of a network on CIFAR-10. Prints JSON.

``python tests/benchmarks/half_the_macs.py --data cifar10-jpeg``; the first run trains the network for some minutes.
Every accuracy is of an exported file in ONNX Runtime on the 10,000 test images; MACs are counted on the file.
"""

import json
from collections.abc import Callable
from typing import Any

import torch
from cifar import BATCH, accuracy, arguments, bench_of

from autocompress.graph.channel_groups import channel_groups
from autocompress.graph.layer_table import layer_table
from autocompress.recipe import Distill, PassStep, Recipe, Recovery
from autocompress.trial import Bench, export_base, facts_of, make_model, make_structure

HALF, TOLERANCE = 0.5, 0.01
Settings = dict[str, Any]


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__).parse_args()
    bench, _ = bench_of("residual", options)
    original = export_base(bench)
    macs = facts_of(original).macs
    found: dict[str, object] = {"original": {"accuracy": round(accuracy(original, bench), 2), "macs": macs}}
    for name, (kind, settings_at) in techniques(bench).items():
        share = _share_of_half(bench, kind, settings_at, macs)
        rows = {}
        for steps in (0, options.steps):
            recovery = Recovery(steps=steps, batch=BATCH, distill=Distill(logits=0.9))
            recipe = Recipe(passes=(PassStep(name=kind, settings=settings_at(share)),), recovery=recovery)
            made = make_model(bench, recipe, threads=bench.machine.cores)
            rows[f"{steps} steps"] = round(accuracy(made.file, bench), 2)
        found[name] = {"accuracy": rows, "macs": made.facts.macs, "share": round(share, 4), "bytes": len(made.file)}
        print(name, found[name], flush=True)
    print(json.dumps(found, indent=2))


def techniques(bench: Bench) -> dict[str, tuple[str, Callable[[float], Settings]]]:
    """Name → pass, and its settings for a share of what stays."""
    shape = bench.task.preprocess.shape
    example = torch.zeros(1, *shape)
    groups = [group.name for group in channel_groups(bench.base, example) if not group.reason]
    layers = [
        facts
        for facts in layer_table(bench.base, example)
        if facts.kind == "Conv2d" and facts.kernel == (3, 3) and facts.c_in > 3
    ]

    def of_layers(settings: Callable[[Any, float], Settings]) -> Callable[[float], Settings]:
        return lambda share: {"layers": {each.name: settings(each, share) for each in layers}, "gain": "smaller"}

    def rank(most: int, share: float) -> int:
        return max(1, round(most * share))

    return {
        "prune_channels": (
            "prune_channels",
            lambda share: {"ratios": dict.fromkeys(groups, round(1 - share, 4)), "criterion": "l1", "align": 1},
        ),
        "tucker2": (
            "factorize",
            of_layers(lambda each, s: {"method": "tucker2", "ranks": [rank(each.c_out, s), rank(each.c_in, s)]}),
        ),
        "svd": (
            "factorize",
            of_layers(lambda each, s: {"method": "svd", "rank": rank(min(each.c_out, 9 * each.c_in), s)}),
        ),
        "spatial_svd": (
            "factorize",
            of_layers(lambda each, s: {"method": "spatial_svd", "rank": rank(3 * min(each.c_out, each.c_in), s)}),
        ),
    }


def _share_of_half(bench: Bench, kind: str, settings_at: Callable[[float], Settings], macs: int) -> float:
    """By bisection: the largest share whose file has at most half the MACs, give or take a hundredth."""
    low, high = 0.05, 0.99
    for _ in range(10):
        share = (low + high) / 2
        recipe = Recipe(passes=(PassStep(name=kind, settings=settings_at(share)),))
        ratio = make_structure(bench, recipe, threads=bench.machine.cores).facts.macs / macs
        if HALF - TOLERANCE <= ratio <= HALF:
            return share
        low, high = (share, high) if ratio < HALF else (low, share)
    return low


if __name__ == "__main__":
    main()
