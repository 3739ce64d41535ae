"""A network as an ONNX file in a tenth of the time, for what is forecast and not delivered."""

import copy
import tempfile
import warnings
from pathlib import Path

import onnx
import torch
from onnx import ModelProto
from torch import nn

from autocompress.export.onnx_file import INPUT_NAME, OUTPUT_NAME, to_onnx
from autocompress.graph.surgery import example_input
from autocompress.task import Preprocess


def draft_onnx(model: nn.Module, preprocess: Preprocess, batch: int) -> ModelProto:
    """The file of PyTorch's older exporter, whose kernels in the runtime are the same but for a few of the smallest.

    Where that one fails, or PyTorch has it no more, that of ``to_onnx``.

    Raises:
        ModelError: neither can translate the model.
    """
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    example = example_input(preprocess.shape, preprocess.dtype, batch)
    try:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
            warnings.simplefilter("ignore")  # it is deprecated, and says so; it traces, and says that too
            path = Path(folder, "draft.onnx")
            torch.onnx.export(
                frozen, (example,), path, dynamo=False, input_names=[INPUT_NAME], output_names=[OUTPUT_NAME]
            )
            return onnx.load(path)
    except Exception:  # whatever it cannot do, the other one may
        return to_onnx(model, preprocess, batch)
