"""Weights from a file, read so that nothing in it can run."""

import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from autocompress.errors import CheckpointError
from autocompress.paths import near_path

# Where training scripts put the state dict: Lightning, timm and torchvision, and the tutorials of PyTorch.
NESTED = ("state_dict", "model", "model_state", "model_state_dict", "ema")
# What DistributedDataParallel and torch.compile put before every name.
PREFIXES = ("module.", "_orig_mod.")
SHOWN = 3  # names of each kind in a message

CONVERT = (
    "python -c \"import torch, safetensors.torch as s; d = torch.load('{name}', weights_only=False, "
    "map_location='cpu'); s.save_file({{k: v.clone().contiguous() for k, v in d.get('state_dict', d).items()}}, "
    "'{stem}.safetensors')\""
)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Names and tensors of a safetensors file or a torch state dict, on the CPU, without wrappers' prefixes.

    Raises:
        CheckpointError: no such file, not a checkpoint, or a pickle that holds more than tensors and plain values.
    """
    if not path.is_file():
        raise CheckpointError(f"a checkpoint is a file; there is no {path}{near_path(path)}")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    return _without_prefixes(_state_dict(path, content))


def load_weights(model: nn.Module, path: Path) -> None:
    """Put the weights of ``path`` into ``model``, in place; every weight must have its counterpart.

    Raises:
        CheckpointError: names or shapes differ; the first of each kind are listed. ``model`` is as it was then.
    """
    weights = read_checkpoint(path)
    state = model.state_dict()
    complaints = [
        *_listed("missing", _missing(state, weights)),
        *_listed("unexpected", [name for name in weights if name not in state]),
        *_listed("of another shape", _misshapen(state, weights)),
    ]
    if complaints:
        raise CheckpointError(
            f"the weights in {path} must fit the model; {'; '.join(complaints)}; "
            "check the model's name and its number of classes and channels"
        )
    model.load_state_dict(weights, strict=False)  # strictly checked above, where tied weights may be stored once


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} must be a safetensors file; it cannot be read: {error}") from error
    return tensors


def _read_torch(path: Path) -> object:
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} must be a state dict of tensors and plain values; it holds other Python objects, which can run "
            "code, so it was not loaded; if you trust it, convert it to safetensors: "
            + CONVERT.format(name=path.name, stem=path.stem)
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} must be a safetensors file or a torch state dict; it cannot be read: {error}"
        ) from error


def _state_dict(path: Path, content: object) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        inner: Any = next((content[key] for key in NESTED if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} must hold names with tensors, got {type(content).__name__}; save a state_dict()")
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others or not content:
        found = ", ".join(str(name) for name in list(content)[:SHOWN]) or "nothing"
        raise CheckpointError(
            f"{path} must hold names with tensors, at the top or under {', '.join(NESTED)}; it holds {found}; "
            "save a state_dict()"
        )
    return {str(name): value for name, value in content.items()}


def _without_prefixes(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES * 2:  # one may wrap the other, in either order
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return weights


def _missing(state: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    """Names without weights; not those tied to one that has them, nor counters that old files lack."""
    filled = {_place(state[name]) for name in weights if name in state}
    return [
        name
        for name, tensor in state.items()
        if name not in weights and _place(tensor) not in filled and not name.endswith("num_batches_tracked")
    ]


def _misshapen(state: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{name} {list(weights[name].shape)} for {list(tensor.shape)}"
        for name, tensor in state.items()
        if name in weights and weights[name].shape != tensor.shape
    ]


def _place(tensor: Tensor) -> tuple[int, tuple[int, ...]]:
    # An empty tensor has no place of its own; id keeps it apart from other empty ones.
    return (tensor.data_ptr() or id(tensor), tuple(tensor.shape))


def _listed(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{len(names)} {what}: {', '.join(names[:SHOWN])}{more}"]
