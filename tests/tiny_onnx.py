"""Tiny ONNX files for tests."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def save(path: Path, nodes, inputs, stored, *, output="y", kind=FLOAT, opset=20) -> Path:
    """Save a graph: ``inputs`` maps names to shapes, ``stored`` names to arrays; the output's shape is left open."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(output, FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.save(model, path)
    return path


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def dense_file(path: Path, *, width: int = 4, n_outputs: int = 3, batch: int | str = 1) -> Path:
    """``y = x w + b`` with ``x [batch, width]``."""
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"])]
    return save(path, nodes, {"x": [batch, width]}, {"w": floats(width, n_outputs), "b": floats(n_outputs)})


def identity_file(path: Path, *, width: int = 3, batch: int | str = 1) -> Path:
    """``y = x``, so that outputs are the inputs."""
    return save(path, [helper.make_node("Identity", ["x"], ["y"])], {"x": [batch, width]}, {})


def external_file(path: Path) -> Path:
    """A dense file whose weights lie in ``<name>.data`` beside it."""
    dense_file(path, width=64, n_outputs=64)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)
    return path
