"""A recipe in a few words, for tables."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from autocompress.precision import Activations, Precision
from autocompress.recipe import Recipe


def summary(recipe: Recipe) -> str:
    """What each pass does, in the order of the passes."""
    return " · ".join(_parts(recipe)) or "unchanged"


def _parts(recipe: Recipe) -> Iterator[str]:
    if family := recipe.settings_of("student").get("family"):
        yield f"{family} student"
    if blocks := recipe.settings_of("drop_blocks").get("blocks"):
        yield f"−{_counted(len(blocks), 'block')}"
    pruning = recipe.settings_of("prune_channels")
    if ratios := pruning.get("ratios"):
        mean = sum(ratios.values()) / len(ratios)
        yield f"−{mean:.0%} channels in {_counted(len(ratios), 'group')} ({pruning.get('criterion', 'l1')})"
    if sparse := recipe.settings_of("prune_weights").get("layers"):
        yield f"{_mixed(_sparsity(each) for each in sparse.values())} sparse in {_counted(len(sparse), 'layer')}"
    if factored := recipe.settings_of("factorize").get("layers"):
        yield f"low rank in {_counted(len(factored), 'layer')}"
    if groups := recipe.settings_of("share_layers").get("groups"):
        yield f"{_counted(sum(map(len, groups)), 'block')} on {_counted(len(groups), 'set')} of weights"
    if clustered := recipe.settings_of("share_weights").get("layers"):
        bits = _mixed(str(each.get("bits", 4)) for each in clustered.values())
        yield f"{bits}-bit codebooks in {_counted(len(clustered), 'layer')}"
    if any(step.name == "quantize" for step in recipe.passes):
        yield _precisions(recipe.settings_of("quantize"))


def _precisions(settings: dict[str, Any]) -> str:
    """The default, and how many layers have which other precision."""
    default = _precision(settings.get("default", {"weights": "int8", "activations": "int8"}))
    others = Counter(map(_precision, settings.get("layers", {}).values()))
    counts = [f"{_counted(count, 'layer')} {words}" for words, count in others.items() if words != default]
    return ", ".join([default, *counts])


def _precision(stated: dict[str, Any]) -> str:
    precision = Precision.model_validate(stated)
    if precision.weights.bits is None or precision.activations is Activations.INT8:
        return precision.weights.value
    if precision.activations is Activations.INT8_DYNAMIC:
        return f"{precision.weights} dynamic"
    return f"{precision.weights} weights"


def _sparsity(stated: dict[str, Any]) -> str:
    return str(stated["pattern"]) if stated.get("pattern") else f"{stated['sparsity']:.0%}"


def _mixed(words: Iterator[str]) -> str:
    """The one word that all are, or the first and the last of them."""
    found = sorted(set(words), key=lambda word: (len(word), word))
    return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
