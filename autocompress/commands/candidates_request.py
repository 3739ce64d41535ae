"""What a hunt for candidates is asked for, checked before anything is built."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from pydantic import Field, ValidationError
from torch import Tensor

from autocompress.budget import Budget, Metric
from autocompress.data.load import load_task
from autocompress.data.options import DataOptions
from autocompress.data.preprocess import model_input
from autocompress.errors import BudgetError, InputError, SpaceError
from autocompress.events import Observer
from autocompress.facts import Facts
from autocompress.search.candidates.hunt import Wish
from autocompress.search.candidates.scores import SAMPLES
from autocompress.students.family import Family, families_for, kind_of_input, load_family, shipped_families
from autocompress.target import Target
from autocompress.task import Layout, Preprocess, Task

ALL = "all"
INPUT_SIZE, CLASSES = 96, 10
TIME_S, TIME_WITH_DATA_S = 300.0, 600.0
_AXES = (Metric.LATENCY, Metric.MACS, Metric.PARAMS, Metric.SIZE, Metric.RAM)  # the first of them that is limited


class Request(Facts):
    """One hunt; ``data`` names what there is a task of. None of size and classes leaves them to the data."""

    space: str
    budget: str
    n: int = Field(20, ge=1, le=1000)
    data: str | None = None
    options: DataOptions = DataOptions()
    input_size: int | None = Field(None, ge=4, le=4096)
    classes: int | None = Field(None, ge=1)
    target: Target = Target()
    time_s: float | None = Field(None, gt=0)
    seed: int = Field(0, ge=0)
    profile: str | None = None
    workers: int | None = Field(None, ge=1)

    @classmethod
    def of(cls, **fields: object) -> Self:
        """The request of these words.

        Raises:
            InputError: a field out of its range, by its flag.
        """
        try:
            return cls.model_validate({name: value for name, value in fields.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]).removesuffix("_s").replace("_", "-")
            flag = f"-{name}" if len(name) == 1 else f"--{name}"
            rule = first["msg"].replace("Input should be", "must be", 1)
            raise InputError(f"{flag} {rule}, got {first['input']!r}") from error

    @property
    def seconds(self) -> float:
        """The limit of the wall clock, roughly kept."""
        return self.time_s or (TIME_S if self.data is None else TIME_WITH_DATA_S)

    def wish(self) -> Wish:
        """The limits on costs.

        Raises:
            BudgetError: a limit that cannot be judged here.
        """
        budget = Budget.parse(self.budget)
        for limit in budget.limits:
            if limit.relative or limit.metric is Metric.ACCURACY_DROP:
                raise BudgetError(
                    f"candidates have no original that {limit} could be relative to; give the limit in units, "
                    "for example latency<=1ms"
                )
            if limit.metric is Metric.ENERGY:
                raise BudgetError("energy cannot be limited: no search predicts or measures it; limit latency instead")
            if limit.metric is Metric.ACCURACY and self.data is None:
                raise BudgetError(f"{limit} needs data to be judged on; give --data, or leave the limit out")
        limits = {limit.metric: limit.amount for limit in budget.costs}
        if not limits:
            raise BudgetError(
                f"candidates need a limit on a cost ({', '.join(_AXES)}), got {self.budget!r}; "
                "add for example latency<=1ms"
            )
        axis = next(metric for metric in _AXES if metric in limits)
        return Wish(limits=limits, axis=axis, count=self.n)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What networks are made for."""

    preprocess: Preprocess
    n_outputs: int
    task: Task | None = None

    def samples(self, seed: int) -> Tensor | None:
        """A few real inputs; None without data."""
        if self.task is None:
            return None
        order = np.random.default_rng(seed).permutation(len(self.task.train))[:SAMPLES]
        return torch.from_numpy(model_input(self.preprocess, self.task.train.inputs[np.sort(order)]))


def subject_of(request: Request, observer: Observer, task: Task | None = None) -> Subject:
    """Shape and outputs, of the data or as asked for.

    Raises:
        InputError: data that cannot be used, or classes beside data.
    """
    if request.data is None and task is None:
        size = request.input_size or INPUT_SIZE
        preprocess = Preprocess(layout=Layout.IMAGE, shape=(3, size, size))
        return Subject(preprocess=preprocess, n_outputs=request.classes or CLASSES)
    if request.classes is not None:
        raise InputError(f"the data says how many classes there are; leave --classes {request.classes} out")
    if task is None:
        assert request.data is not None
        options = request.options.model_copy(
            update={"input_size": request.input_size or request.options.input_size, "seed": request.seed}
        )
        observer.stage("load", request.data)
        task = load_task(request.data, options=options, progress=lambda what, i, n: observer.progress(i, n, what))
    return Subject(preprocess=task.preprocess, n_outputs=task.n_outputs, task=task)


def families_of(space: str, preprocess: Preprocess) -> Mapping[str, Family]:
    """The families of a space that take these inputs.

    Raises:
        SpaceError: no such family, a file that is none, or one for other inputs.
    """
    shape, dtype = preprocess.shape, preprocess.dtype
    if space == ALL:
        names = families_for(shape, dtype)
        if not names:
            raise SpaceError(f"no family takes inputs of shape {list(shape)} and type {dtype}; give a family's name")
        return {name: load_family(name) for name in names}
    try:
        family = load_family(space)
    except SpaceError as error:
        if space in shipped_families() or "/" in space or space.endswith((".yaml", ".yml")):
            raise
        raise SpaceError(f"{error}; `all` takes every family that fits the inputs") from error
    if kind_of_input(shape, dtype) != family.kind:
        fitting = ", ".join(families_for(shape, dtype)) or "none"
        raise SpaceError(
            f"the family {family.name} takes inputs of the kind {family.kind}, got the shape {list(shape)}; families "
            f"for it: {fitting}. Data of that kind decides the shape: give --data"
        )
    return {family.name: family}
