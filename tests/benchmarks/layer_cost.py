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
    Case(name="linear 512-1000 @1", size=1, chain=linear(512, 1000)),
    Case(name="linear 192-768 @64", size=64, chain=linear(192, 768)),
]


def factors_of(layer: Case) -> Iterator[Case]:
    """Chains at several ranks, some of them no multiple of a block."""
    (spec,) = layer.chain
    most = min(spec.c_in, spec.c_out)
    for share in (0.13, 0.25, 0.5, 0.75):
        for method, chain in CHAINS.items():
            if method == "svd" or (spec.kernel and max(spec.kernel) > 1):
                rank = max(2, round(share * most)) * (2 if method == "cp" else 1)
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
    """Nanoseconds of each term, by least squares of relative errors; the first two belong to the graph, not to layers."""
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
    cases: list[Case] = []
    times: list[float] = []
    decisions = []
    for layer in LAYERS:
        group = [layer, *factors_of(layer)]
        found = times_of(group)
        cases += group
        times += found
        whole = estimated_time(facts_of(layer), block)
        for case, measured in zip(group[1:], found[1:], strict=True):
            ratio = estimated_time(facts_of(case), block) / whole
            decisions.append({"case": case.name, "measured": measured / found[0], "estimated": ratio})
    clear = [d for d in decisions if abs(d["measured"] - 1) > CLOSE]
    answer = {
        "machine": this_machine().cpu,
        "channel_block": block,
        "runtime": ort.__version__,
        "fitted_ns": fitted(cases, times, block),
        "used_ns": dict(NANOSECONDS),
        "cases": len(decisions),
        "right": share(decisions),
        "clear_cases": len(clear),
        "clear_right": share(clear),
        "wrong": [d for d in decisions if not right(d)],
        "times_us": {case.name: round(value, 2) for case, value in zip(cases, times, strict=True)},
    }
    print(json.dumps(answer, indent=2))


def right(decision: dict) -> bool:
    return (decision["measured"] < 1) == (decision["estimated"] < 1)


def share(decisions: list[dict]) -> float:
    return sum(map(right, decisions)) / len(decisions)


if __name__ == "__main__":
    main()
