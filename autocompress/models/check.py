"""One forward pass that shows whether a model takes the data and gives the outputs."""

import torch
from torch import Tensor, nn

from autocompress.errors import ModelError
from autocompress.task import Preprocess

BATCH = 2  # one would hide a model that mixes up batch and features


def check_model(model: nn.Module, preprocess: Preprocess, n_outputs: int, *, classification: bool = True) -> None:
    """Nothing, if a batch of zeros gives one float tensor ``[2, n_outputs]``; the model keeps its mode and values.

    Other tasks than classification may have any shape after the batch.

    Raises:
        ModelError: the pass fails, or gives something else.
    """
    shape = [BATCH, *preprocess.shape]
    inputs = torch.zeros(shape, dtype=getattr(torch, preprocess.dtype))
    output = _forward(model, inputs)
    if not isinstance(output, Tensor) or not output.is_floating_point():
        kind = f"a tensor of {output.dtype}" if isinstance(output, Tensor) else type(output).__name__
        raise ModelError(f"a model must return one float tensor; for inputs {shape} it returned {kind}; wrap it")
    if classification and list(output.shape) != [BATCH, n_outputs]:
        raise ModelError(
            f"a model must return one score a class, {[BATCH, n_outputs]} for inputs {shape}; it returned "
            f"{list(output.shape)}; check its last layer and the number of classes"
        )
    if output.ndim == 0 or len(output) != BATCH:
        raise ModelError(
            f"a model must return one output a sample, {BATCH} for inputs {shape}; it returned {list(output.shape)}"
        )


def _forward(model: nn.Module, inputs: Tensor) -> object:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            return model(inputs)
    except Exception as error:
        raise ModelError(
            f"a model must run on the data's inputs; {list(inputs.shape)} {inputs.dtype} gave {type(error).__name__}: "
            f"{error}; change the model, or the data's size with --input-size"
        ) from error
    finally:
        for module, training in modes.items():
            module.training = training
