"""A recipe's passes applied in order to a copy of the base."""

import copy
import re
from dataclasses import dataclass, field, replace
from itertools import pairwise

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from torch import nn

from autocompress.errors import AutocompressError, RecipeError, near
from autocompress.layers.constraint import Constraint
from autocompress.passes import PASSES, Pass, PassContext, Stage
from autocompress.precision import FilePlan
from autocompress.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Composed:
    """A compressed model before recovery; ``changed`` and ``skipped`` map ``pass: layer`` to what and why.

    ``constraints`` say what recovery must keep: layer → zeros and clusters of its weight.
    """

    model: nn.Module
    plan: FilePlan
    constraints: dict[str, Constraint] = field(default_factory=dict)
    changed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def read_passes(recipe: Recipe) -> tuple[Pass, ...]:
    """The passes of a recipe with their settings checked, in order.

    Raises:
        RecipeError: an unknown pass, a setting outside its range, a pass twice, or passes out of order.
    """
    passes = tuple(_read(step.name, step.settings) for step in recipe.passes)
    for place, item in enumerate(passes):
        if any(item.name == earlier.name for earlier in passes[:place]):
            raise RecipeError(f"a recipe has each pass once, got {item.name} twice; join their settings")
    for before, after in pairwise(passes):
        if after.stage < before.stage:
            raise RecipeError(
                f"{after.name} must come before {before.name}: passes run in the order "
                f"{', '.join(stage.name.lower() for stage in Stage)}"
            )
    return passes


def compose(base: nn.Module, recipe: Recipe, context: PassContext) -> Composed:
    """The base with every pass applied; ``base`` itself is left alone.

    Raises:
        RecipeError: the recipe does not fit the model; names the pass.
    """
    passes = read_passes(recipe)
    model = copy.deepcopy(base)
    plan = FilePlan()
    changed: dict[str, str] = {}
    skipped: dict[str, str] = {}
    constraints: dict[str, Constraint] = {}
    for done, item in enumerate(passes):
        try:
            outcome = item.apply(model, replace(context, constraints=constraints))
        except AutocompressError as error:
            after = ", ".join(p.name for p in passes[:done])
            raise type(error)(f"{error} (in {item.name}{f', after {after}' if after else ''})") from error
        changed |= {f"{item.name}: {layer}": what for layer, what in outcome.changed.items()}
        skipped |= {f"{item.name}: {layer}": why for layer, why in outcome.skipped.items()}
        model = model if outcome.network is None else outcome.network
        constraints = _of_tied(model, constraints | outcome.constraints)
        plan = item.finalize(plan)
        if outcome.rewired:
            context = replace(context, groups=None, blocks=None)
    return Composed(model=model, plan=plan, constraints=constraints, changed=changed, skipped=skipped)


def _of_tied(model: nn.Module, constraints: dict[str, Constraint]) -> dict[str, Constraint]:
    """The constraints that weights keep to, given to every layer that holds the same weight.

    Those of layers that are gone, or whose weight has become another one's since, are dropped.
    """
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        layer, _, last = name.rpartition(".")
        if last == "weight":
            owners.setdefault(id(parameter), []).append(layer)
    found: dict[str, Constraint] = {}
    for layers in owners.values():
        weight = model.get_parameter(f"{layers[0]}.weight")
        held = next((constraints[x] for x in layers if x in constraints and constraints[x].fits(weight)), None)
        if held is not None:
            found |= dict.fromkeys(layers, held)
    return found


def _read(name: str, settings: dict[str, object]) -> Pass:
    kind = PASSES[name]
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([name, *(str(part) for part in first["loc"])])
        rule = first["msg"].removeprefix("Value error, ")
        got = "" if first["type"] == "value_error" and ", got " in rule else f", got {first['input']!r}"
        raise RecipeError(f"{place}: {rule}{got}{_nearest(first, kind)}") from error


def _nearest(error: ErrorDetails, kind: type[Pass]) -> str:
    """The nearest value that would do, or the settings with a like name, where pydantic's own rule was broken."""
    if error["type"] == "extra_forbidden":
        return near(str(error["loc"][-1]), kind.model_fields)
    if error["type"] == "enum":
        return _nearest_word(str(error["input"]), re.findall(r"'([^']+)'", error["msg"]))
    bounds = error.get("ctx", {})
    bound = next((bounds[key] for key in ("ge", "le") if key in bounds), None)
    return "" if bound is None else f"; nearest: {bound}"


def _nearest_word(value: str, words: list[str]) -> str:
    """Of words that are the same letters with another number, that with the nearest number; else the like ones."""
    letters, number = re.fullmatch(r"(.*?)(\d*)", value).groups()  # type: ignore[union-attr]  # anything matches
    numbers = [int(word[len(letters) :]) for word in words if re.fullmatch(rf"{re.escape(letters)}\d+", word)]
    if not number or not numbers:
        return near(value, words)
    return f"; nearest: {letters}{min(numbers, key=lambda each: abs(each - int(number)))}"
