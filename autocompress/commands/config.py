"""Everything that decides a run, in one record: ``config.yaml``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import yaml
from pydantic import Field, ValidationError, model_validator

from autocompress.budget import Budget, Metric
from autocompress.data.options import DataOptions
from autocompress.errors import BudgetError, InputError
from autocompress.facts import Facts
from autocompress.search.space import DEFAULT
from autocompress.search.study import Sampler
from autocompress.target import Target
from autocompress.task import Preprocess

OBJECT = "object"  # stands for a model or task that was handed over in Python and has no name
# What must agree between a run and its resumption; time, trials and workers may change.
_FIXED = (
    "sweep",
    "model",
    "data",
    "pretrained",
    "checkpoint",
    "budget",
    "target",
    "seed",
    "space",
    "techniques",
    "sampler",
    "minimize",
    "options",  # last: it takes the seed over, whose difference says more
)


class RunConfig(Facts):
    """One run. ``time_s`` bounds the wall clock, everything included; ``trials`` the number of trained candidates."""

    schema_version: int = Field(1, ge=1, le=1)
    model: str
    data: str
    budget: str = Field(description="empty only where a recipe is applied, and in a sweep")
    sweep: tuple[str, ...] = Field((), description="budgets of a sweep, each with a run of its own")
    pretrained: bool = False
    checkpoint: str | None = None
    options: DataOptions = DataOptions()
    target: Target = Target()
    time_s: float = Field(600.0, gt=0)
    trials: int | None = Field(None, ge=1)
    workers: int | None = Field(
        None,
        ge=1,
        description="one-thread workers on this machine; None is one per core; short runs have none",
    )
    ray_address: str | None = None
    seed: int = Field(0, ge=0)
    space: str = DEFAULT
    techniques: tuple[str, ...] | None = None
    sampler: Sampler = Sampler.SURROGATE
    minimize: Metric = Metric.LATENCY
    input: Preprocess | None = Field(None, description="what the preprocessing came out as; not read back")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.budget:
            Budget.parse(self.budget)
        _check_sweep([Budget.parse(budget) for budget in self.sweep])
        if self.minimize is Metric.ENERGY:
            raise InputError("energy cannot be minimized: no search predicts or measures it; minimize latency instead")
        if not self.minimize.is_cost:
            raise InputError(f"--minimize takes a cost (latency, size, ram, macs or params), got {self.minimize}")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """The configuration in a file.

        Raises:
            InputError: not there, or not a configuration.
        """
        try:
            return cls.model_validate(yaml.safe_load(path.read_text()))
        except FileNotFoundError as error:
            raise InputError(f"a configuration is a YAML file written by a run; there is no {path}") from error
        except (yaml.YAMLError, ValidationError) as error:
            raise InputError(f"{path} is not a configuration of this version: {error}") from error

    def differences(self, other: "RunConfig") -> list[str]:
        """Names of the fields that must agree between a run and its resumption, and do not."""
        return [name for name in _FIXED if getattr(self, name) != getattr(other, name)]


def _check_sweep(budgets: Sequence[Budget]) -> None:
    seen = set()
    for budget in budgets:
        limits = frozenset(map(str, budget.limits))
        if limits in seen:
            raise BudgetError(f"each budget of a sweep is given once, got {budget} twice; leave one of them out")
        seen.add(limits)


def read_or_explain(build: type[RunConfig], **fields: object) -> RunConfig:
    """``RunConfig`` from a user's words; a field out of range is answered with its name, rule and value.

    Raises:
        InputError: a field that does not hold.
    """
    try:
        return build(**{name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "the arguments"
        raise InputError(f"{name}: {first['msg']}, got {first['input']!r}") from error
