"""The one place that knows timm."""

from typing import Any

import timm
from torch import nn

from autocompress.errors import ModelError, near
from autocompress.models.source import ModelSource


def build_timm(source: ModelSource) -> nn.Module:
    """The timm model named by ``source.spec`` with the channels, classes and, if its size is fixed, size asked for.

    Raises:
        ModelError: no such name, weights that cannot be fetched, or an architecture that refuses these arguments.
    """
    config = _config(source.spec)
    arguments = _arguments(source, config)
    if source.pretrained:
        return _pretrained(source.spec, config, arguments)
    try:
        model: nn.Module = timm.create_model(source.spec, pretrained=False, **arguments)
    except Exception as error:
        raise ModelError(f"timm must build {source.spec} with {arguments}; it failed: {error}") from error
    return model


def has_fixed_timm_size(name: str) -> bool:
    """Whether the model is built for one image size.

    Raises:
        ModelError: no such name.
    """
    config = _config(name)
    return bool(config is not None and config.fixed_input_size)


def _config(name: str) -> Any:
    """Timm's ``PretrainedCfg`` of ``name``, None for an architecture without one."""
    if not timm.is_model(name):
        raise ModelError(
            f"a model is a timm name or path/file.py:factory; timm has no {name!r}{near(name, timm.list_models())}"
        )
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        architecture = name.partition(".")[0]
        tags = timm.list_models(f"{architecture}.*", pretrained=True)
        raise ModelError(f"a timm tag must exist: {error} It has {', '.join(tags) or 'none'}") from error


def _arguments(source: ModelSource, config: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"num_classes": source.n_outputs}
    if len(source.in_shape) != 3:
        return arguments
    channels, height, width = source.in_shape
    arguments["in_chans"] = channels
    if config is not None and config.fixed_input_size and tuple(config.input_size[1:]) != (height, width):
        arguments["img_size"] = height if height == width else (height, width)
    return arguments


def _pretrained(name: str, config: Any, arguments: dict[str, Any]) -> nn.Module:
    if config is None or not config.has_weights:
        raise ModelError(f"timm must have weights for a pretrained model; {name} has none; use --checkpoint FILE")
    try:
        model: nn.Module = timm.create_model(name, pretrained=True, **arguments)
    except Exception as error:  # the hub's client, the network and the fit of the weights all have errors of their own
        raise ModelError(
            f"the pretrained weights of {name} could not be fetched or fitted: {type(error).__name__}: {error}; "
            "without a network, bring them with --checkpoint FILE"
        ) from error
    return model
