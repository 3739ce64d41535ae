"""Measures layers and their factors, fits the constants of ``graph/layer_cost.py``, and counts its right decisions.

    python tests/benchmarks/layer_cost.py

Prints one JSON object. One thread, single inferences; every layer and its factors are timed in turns, so that noise
of the machine falls on all of them alike.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from scipy.optimize import nnls

from autocompress.graph.layer_cost import NANOSECONDS, Term, cost_terms, estimated_time
from autocompress.graph.layer_table import LayerFacts
from autocompress.hardware.machine import this_machine

ROUNDS = 40
ROUND_S = 0.002
LOW = 0.2  # quantile over the rounds: what other programs do only ever adds time
SHARES = (0.13, 0.3, 0.5, 0.8, 1.0, 1.5)  # ranks, of the narrower side's channels
CLOSE = 0.1  # where factors and layer are that near, either decision is good


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One layer: a convolution, or a linear layer where there is no kernel."""

    c_in: int
    c_out: int
    kernel: tuple[int, ...] = ()
    stride: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True, kw_only=True)
class Case:
    """A layer on inputs of ``size`` × ``size`` (a linear one on ``size`` tokens), or one of its chains of factors."""

    name: str
    size: int
    chain: tuple[Spec, ...]


def conv(c_in: int, c_out: int, k: int, stride: int = 1) -> tuple[Spec, ...]:
    return (Spec(c_in=c_in, c_out=c_out, kernel=(k, k), stride=(stride, stride)),)


def linear(c_in: int, c_out: int) -> tuple[Spec, ...]:
    return (Spec(c_in=c_in, c_out=c_out),)


LAYERS = [
    Case(name="conv 16-16 3x3 @32", size=32, chain=conv(16, 16, 3)),
    Case(name="conv 32-64 3x3/2 @28", size=28, chain=conv(32, 64, 3, 2)),
    Case(name="conv 64-64 3x3 @28", size=28, chain=conv(64, 64, 3)),
    Case(name="conv 96-96 3x3 @14", size=14, chain=conv(96, 96, 3)),
    Case(name="conv 128-128 3x3 @14", size=14, chain=conv(128, 128, 3)),
    Case(name="conv 256-256 3x3 @7", size=7, chain=conv(256, 256, 3)),
    Case(name="conv 48-48 5x5 @14", size=14, chain=conv(48, 48, 5)),
    Case(name="conv 60-60 3x3 @16", size=16, chain=conv(60, 60, 3)),
    Case(name="conv 64-128 1x1 @28", size=28, chain=conv(64, 128, 1)),
    Case(name="conv 256-512 1x1 @7", size=7, chain=conv(256, 512, 1)),
    Case(name="conv 64-64 3x3 @4", size=4, chain=conv(64, 64, 3)),
    Case(name="conv 32-32 3x3 @8", size=8, chain=conv(32, 32, 3)),
    Case(name="linear 128-64 @1", size=1, chain=linear(128, 64)),
    Case(name="linear 512-1000 @1", size=1, chain=linear(512, 1000)),
    Case(name="linear 192-768 @64", size=64, chain=linear(192, 768)),
]
# Judged, but not fitted on.
HELD_OUT = [
    Case(name="conv 80-160 3x3/2 @16", size=16, chain=conv(80, 160, 3, 2)),
    Case(name="conv 192-192 3x3 @10", size=10, chain=conv(192, 192, 3)),
    Case(name="conv 24-24 5x5 @24", size=24, chain=conv(24, 24, 5)),
    Case(name="conv 3-32 3x3/2 @64", size=64, chain=conv(3, 32, 3, 2)),
    Case(name="conv 40-240 1x1 @20", size=20, chain=conv(40, 240, 1)),
    Case(name="conv 48-48 3x3 @6", size=6, chain=conv(48, 48, 3)),
    Case(name="linear 384-384 @50", size=50, chain=linear(384, 384)),
]


def factors_of(layer: Case) -> Iterator[Case]:
    """Chains with fewer weights than the layer, at several ranks, some of them no multiple of a block."""
    (spec,) = layer.chain
    most = min(spec.c_in, spec.c_out)
    for method, chain in CHAINS.items():
        if method != "svd" and max(spec.kernel, default=1) == 1:
            continue
        ranks = {max(2, round(share * most)) * (3 if method == "cp" else 1) for share in SHARES}
        for rank in sorted(ranks):
            if weights_of(chain(spec, rank)) < weights_of(layer.chain):
                yield Case(name=f"{layer.name} {method} {rank}", size=layer.size, chain=chain(spec, rank))


def svd(spec: Spec, rank: int) -> tuple[Spec, ...]:
    first = Spec(c_in=spec.c_in, c_out=rank, kernel=spec.kernel, stride=spec.stride)
    return first, Spec(c_in=rank, c_out=spec.c_out, kernel=(1, 1) if spec.kernel else ())


def spatial_svd(spec: Spec, rank: int) -> tuple[Spec, ...]:
    (k, _), (s, _) = spec.kernel, spec.stride
    return (
        Spec(c_in=spec.c_in, c_out=rank, kernel=(k, 1), stride=(s, 1)),
        Spec(c_in=rank, c_out=spec.c_out, kernel=(1, k), stride=(1, s)),
    )


def tucker2(spec: Spec, rank: int) -> tuple[Spec, ...]:
    return (
        Spec(c_in=spec.c_in, c_out=rank, kernel=(1, 1)),
        Spec(c_in=rank, c_out=rank, kernel=spec.kernel, stride=spec.stride),
        Spec(c_in=rank, c_out=spec.c_out, kernel=(1, 1)),
    )


def cp(spec: Spec, rank: int) -> tuple[Spec, ...]:
    (k, _), (s, _) = spec.kernel, spec.stride
    return (
        Spec(c_in=spec.c_in, c_out=rank, kernel=(1, 1)),
        Spec(c_in=rank, c_out=rank, kernel=(k, 1), stride=(s, 1), groups=rank),
        Spec(c_in=rank, c_out=rank, kernel=(1, k), stride=(1, s), groups=rank),
        Spec(c_in=rank, c_out=spec.c_out, kernel=(1, 1)),
    )


CHAINS: dict[str, Callable[[Spec, int], tuple[Spec, ...]]] = {
    "svd": svd,
    "spatial_svd": spatial_svd,
    "tucker2": tucker2,
    "cp": cp,
}


def weights_of(chain: tuple[Spec, ...]) -> int:
    return sum(spec.c_out * spec.c_in // spec.groups * math.prod(spec.kernel) for spec in chain)


def facts_of(case: Case) -> list[LayerFacts]:
    """The chain as the package sees layers."""
    height = width = case.size
    found = []
    for place, spec in enumerate(case.chain):
        if spec.kernel:
            height, width = math.ceil(height / spec.stride[0]), math.ceil(width / spec.stride[1])
        found.append(
            LayerFacts(
                name=str(place),
                kind="Conv2d" if spec.kernel else "Linear",
                c_in=spec.c_in,
                c_out=spec.c_out,
                kernel=spec.kernel,
                groups=spec.groups,
                positions=height * width if spec.kernel else case.size,
                params=0,
            )
        )
    return found


def session_of(case: Case) -> tuple[ort.InferenceSession, dict[str, np.ndarray]]:
    first = case.chain[0]
    shape = [1, first.c_in, case.size, case.size] if first.kernel else [1, case.size, first.c_in]
    nodes, weights = [], []
    for place, spec in enumerate(case.chain):
        wanted = (spec.c_out, spec.c_in // spec.groups, *spec.kernel) if spec.kernel else (spec.c_in, spec.c_out)
        values = np.random.default_rng(place).normal(size=wanted).astype(np.float32) * 0.05
        weights.append(numpy_helper.from_array(values, f"w{place}"))
        ends = ([f"x{place}", f"w{place}"], [f"x{place + 1}"])
        if spec.kernel:
            pads = [k // 2 for k in spec.kernel] * 2
            nodes.append(helper.make_node("Conv", *ends, strides=spec.stride, pads=pads, group=spec.groups))
        else:
            nodes.append(helper.make_node("MatMul", *ends))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"x{len(case.chain)}", TensorProto.FLOAT, [None] * len(shape))],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session, {"x0": np.random.default_rng(0).normal(size=shape).astype(np.float32)}


def times_of(cases: list[Case]) -> list[float]:
    """Microseconds of one inference of each case, a low quantile of interleaved rounds."""
    benches = [session_of(case) for case in cases]
    runs = []
    for session, feed in benches:
        session.run(None, feed)
        started = time.perf_counter()
        session.run(None, feed)
        runs.append(max(1, int(ROUND_S / (time.perf_counter() - started))))
    seen: list[list[float]] = [[] for _ in cases]
    for _ in range(ROUNDS):
        for place, (session, feed) in enumerate(benches):
            started = time.perf_counter()
            for _ in range(runs[place]):
                session.run(None, feed)
            seen[place].append((time.perf_counter() - started) / runs[place] * 1e6)
    return [float(np.quantile(times, LOW)) for times in seen]


def ends_of(case: Case) -> float:
    """Values that go in and out of the graph: reordered once each, by the layer and by its factors alike."""
    facts = facts_of(case)
    size = case.size**2 if case.chain[0].kernel else case.size
    return size * facts[0].c_in + facts[-1].positions * facts[-1].c_out


def fitted(cases: list[Case], times_us: list[float], block: int) -> dict[str, float]:
    """Nanoseconds of each term, by least squares of relative errors; the first two are the graph's."""
    rows = []
    for case in cases:
        terms = [cost_terms(facts, block) for facts in facts_of(case)]
        is_conv = bool(case.chain[0].kernel)
        rows.append([1.0, ends_of(case) * is_conv, *(sum(t.get(term, 0.0) for t in terms) for term in Term)])
    target = np.array(times_us) * 1e3
    solution, _ = nnls(np.array(rows) / target[:, None], np.ones(len(target)))
    return dict(zip(["graph", "reordered", *Term], (float(f"{value:.4g}") for value in solution), strict=True))


def main() -> None:
    block = this_machine().channel_block
    times = {}
    for layer in (*LAYERS, *HELD_OUT):
        group = [layer, *factors_of(layer)]
        times |= dict(zip(group, times_of(group), strict=True))
    known = [case for layer in LAYERS for case in (layer, *factors_of(layer))]
    answer = {
        "machine": this_machine().cpu,
        "channel_block": block,
        "runtime": ort.__version__,
        "fitted_ns": fitted(known, [times[case] for case in known], block),
        "used_ns": dict(NANOSECONDS),
        "decisions": judged(LAYERS, times, block),
        "decisions_on_layers_not_fitted": judged(HELD_OUT, times, block),
        "times_us": {case.name: round(value, 2) for case, value in times.items()},
    }
    print(json.dumps(answer, indent=2))


def judged(layers: list[Case], times: dict[Case, float], block: int) -> dict[str, object]:
    """How often the estimate and the clock agree on whether factors are faster than their layer."""
    decisions = [
        {
            "case": case.name,
            "measured": round(times[case] / times[layer], 3),
            "estimated": round(estimated_time(facts_of(case), block) / estimated_time(facts_of(layer), block), 3),
        }
        for layer in layers
        for case in factors_of(layer)
    ]
    clear = [d for d in decisions if abs(d["measured"] - 1) > CLOSE]
    return {
        "cases": len(decisions),
        "faster_by_the_clock": sum(d["measured"] < 1 for d in decisions),
        "right": share(decisions),
        "clear_cases": len(clear),
        "clear_right": share(clear),
        "wrong": [d for d in decisions if not right(d)],
    }


def right(decision: dict) -> bool:
    return (decision["measured"] < 1) == (decision["estimated"] < 1)


def share(decisions: list[dict]) -> float:
    return sum(map(right, decisions)) / len(decisions)


if __name__ == "__main__":
    main()
