"""What stored weights cost and save, in JSON: bytes, their bound, load and latency of one convolution and of eight.

``python tests/benchmarks/stored_weights.py``; three minutes on a calm machine, a line for each network. All files of a
network are measured in turns; the A/A floor says from where on a difference between two of them means anything.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

from autocompress.export.calibrate import Seen
from autocompress.export.compact import compact
from autocompress.export.quantize_onnx import quantize_onnx
from autocompress.export.stored_weights import StoredWeight, dense_of, store
from autocompress.hardware.latency import a_a_floor, measure_latency
from autocompress.hardware.machine import this_machine
from autocompress.linalg.codebook import codebook
from autocompress.linalg.quantizers import ScaleBy, to_integers
from autocompress.precision import INT8, FilePlan
from autocompress.target import Target

WIDTH, SIDE = 256, 28
TARGET = Target()


def network(depth: int) -> ModelProto:
    """``depth`` 3×3 convolutions of 256 channels with ReLU between them."""
    rng = np.random.default_rng(0)
    nodes, constants, last = [], [], "input"
    for layer in range(depth):
        weight = rng.standard_t(5, (WIDTH, WIDTH, 3, 3)) * (3 * WIDTH * 9) ** -0.5
        constants.append(numpy_helper.from_array(weight.astype(np.float32), f"w{layer}"))
        constants.append(numpy_helper.from_array(rng.normal(size=WIDTH).astype(np.float32) * 0.1, f"b{layer}"))
        out = "output" if layer == depth - 1 else f"conv{layer}"
        nodes.append(
            helper.make_node("Conv", [last, f"w{layer}", f"b{layer}"], [out], name=f"layer{layer}", pads=[1] * 4)
        )
        last = out
        if out != "output":
            nodes.append(helper.make_node("Relu", [out], [f"relu{layer}"], name=f"relu{layer}"))
            last = f"relu{layer}"
    shape = [1, WIDTH, SIDE, SIDE]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("input", "output")]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def by_codebook(weight: torch.Tensor, bits: int, kept: torch.Tensor | None = None) -> StoredWeight:
    found = codebook(weight, 2**bits, kept=kept)
    codes = found.indices.flatten() if kept is None else found.indices[kept]
    table = found.values.numpy()
    mask = None if kept is None else kept.numpy()
    return StoredWeight(shape=tuple(weight.shape), codes=codes.numpy(), bits=bits, table=table, kept=mask)


def by_integers(weight: torch.Tensor, bits: int) -> StoredWeight:
    found = to_integers(weight, bits, scale_by=ScaleBy.ERROR)
    codes = found.codes.flatten().numpy()
    scale = found.scale.numpy()
    if bits == 8:
        return StoredWeight(shape=tuple(weight.shape), codes=codes, scale=scale)
    lifted = (codes.astype(int) + 2 ** (bits - 1)).astype(np.uint8)
    return StoredWeight(shape=tuple(weight.shape), codes=lifted, bits=bits, scale=scale)


def largest_tenth(weight: torch.Tensor) -> torch.Tensor:
    return weight.abs() > weight.abs().flatten().kthvalue(weight.numel() * 9 // 10).values


def raw(weight: torch.Tensor, dtype: type) -> StoredWeight:
    return StoredWeight(shape=tuple(weight.shape), codes=weight.numpy().astype(dtype).ravel())


def sparse(weight: torch.Tensor) -> StoredWeight:
    kept = largest_tenth(weight)
    return StoredWeight(shape=tuple(weight.shape), codes=weight[kept].numpy(), kept=kept.numpy())


def int8_codebook(weight: torch.Tensor) -> StoredWeight:
    """Sixteen of the 255 integers."""
    found = codebook(weight.float(), 16)
    table = found.values.round().to(torch.int8).numpy()
    return StoredWeight(shape=tuple(weight.shape), codes=found.indices.flatten().numpy(), bits=4, table=table)


FLOAT_STORAGES = {
    "dense fp32": lambda weight: raw(weight, np.float32),
    "fp16": lambda weight: raw(weight, np.float16),
    "int8 with scales": lambda weight: by_integers(weight, 8),
    "4-bit integers with scales": lambda weight: by_integers(weight, 4),
    "4-bit codebook": lambda weight: by_codebook(weight, 4),
    "3-bit codebook": lambda weight: by_codebook(weight, 3),
    "90 % sparse": sparse,
    "90 % sparse, 4-bit codebook": lambda weight: by_codebook(weight, 4, largest_tenth(weight)),
}
INT8_STORAGES = {"int8 static": lambda weight: raw(weight, np.int8), "int8 static, 4-bit codebook": int8_codebook}


def bound_bytes(weight: StoredWeight) -> float:
    """Codes or values, table, scales and the entropy of the mask, without a byte of how they are written down."""
    values = weight.codes.nbytes if weight.bits is None else weight.codes.size * weight.bits / 8
    extras = [each.nbytes for each in (weight.table, weight.scale) if each is not None]
    if weight.kept is None:
        return values + sum(extras)
    ratio = float(weight.kept.mean())
    entropy_bits = -ratio * np.log2(ratio) - (1 - ratio) * np.log2(1 - ratio)
    return values + sum(extras) + weight.kept.size * float(entropy_bits) / 8


def stored_files(depth: int) -> dict[str, tuple[ModelProto, dict[str, StoredWeight]]]:
    proto = network(depth)
    calibration = np.random.default_rng(1).normal(size=(4, WIDTH, SIDE, SIDE)).astype(np.float32)
    static = quantize_onnx(proto, FilePlan(default=INT8), Seen(inputs=calibration, batch=1), this_machine())
    files = {}
    for source, storages, kind in (
        (proto, FLOAT_STORAGES, TensorProto.FLOAT),
        (static, INT8_STORAGES, TensorProto.INT8),
    ):
        dense = {each.name: each for each in source.graph.initializer if each.data_type == kind and len(each.dims) == 4}
        for name, storage in storages.items():
            tensors = {key: torch.from_numpy(numpy_helper.to_array(each).copy()) for key, each in dense.items()}
            files[name] = source, {key: storage(tensor) for key, tensor in tensors.items()}
    return files


def with_dense(proto: ModelProto, weights: dict[str, StoredWeight]) -> ModelProto:
    """The file that the stored one must be equal to."""
    result = ModelProto()
    result.CopyFrom(proto)
    for item in result.graph.initializer:
        if item.name in weights:
            item.CopyFrom(numpy_helper.from_array(dense_of(weights[item.name]), item.name))
    return result


def run(proto: ModelProto) -> np.ndarray:
    x = np.random.default_rng(2).normal(size=(1, WIDTH, SIDE, SIDE)).astype(np.float32)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x})[0]


def measured(depth: int, folder: Path) -> dict[str, object]:
    rows: dict[str, dict[str, object]] = {}
    paths = []
    for place, (name, (proto, weights)) in enumerate(stored_files(depth).items()):
        stored = compact(store(proto, weights))
        paths.append(folder / f"{depth}-{place}.onnx")
        onnx.save(stored, paths[-1])
        rows[name] = {
            "file_bytes": paths[-1].stat().st_size,
            "bound_bytes_of_weights": round(sum(map(bound_bytes, weights.values()))),
            "output_is_that_of_the_dense_file": bool(np.array_equal(run(stored), run(with_dense(proto, weights)))),
        }
    for row, latency in zip(rows.values(), measure_latency(paths, TARGET), strict=True):
        row["load_ms"] = round(latency.load_ms, 1)
        row["inference_ms"] = round(latency.median_ms, 3)
        row["interval_ms"] = [round(each, 3) for each in latency.interval_ms]
        row["noisy"] = latency.noisy
    return {"a_a_floor": round(a_a_floor(paths[0], TARGET), 4), "files": rows}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made_in:
        for depth in (1, 8):
            print(json.dumps({"layers": depth, **measured(depth, Path(made_in))}), flush=True)
