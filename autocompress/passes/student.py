"""Another network in the place of the whole one."""

from typing import Any, ClassVar, Self

import torch
from pydantic import Field, ValidationError, model_validator
from torch import nn

from autocompress.errors import RecipeError, SpaceError
from autocompress.passes.base import Outcome, Pass, PassContext, Stage, count_parameters
from autocompress.students.build import build
from autocompress.students.family import Architecture


class Student(Pass):
    """Build an architecture of a family with random weights; it learns in recovery, from the network that it replaces.

    Passes that follow name the layers of the student. A recovery for weights that are there already is too short and
    too careful for it: see ``students.recovery``.

    Source: Hinton et al. 2015, sec. 2, https://arxiv.org/abs/1503.02531, for a student of its own architecture under a
    teacher; the families have theirs.
    """

    name: ClassVar[str] = "student"
    stage: ClassVar[Stage] = Stage.ARCHITECTURE
    source: ClassVar[str] = "https://arxiv.org/abs/1503.02531"
    saves: ClassVar[str] = "ms, bytes, RAM"

    family: str | None = Field(None, description="of networks; None keeps the one that is there")
    values: dict[str, bool | int | float] = Field(default_factory=dict, description="of every parameter of the family")

    @model_validator(mode="before")
    @classmethod
    def _is_an_architecture(cls, data: Any) -> Any:
        """Values as the family has them, so that 1 and 1.0 of a share give recipes of one digest."""
        if not isinstance(data, dict) or data.keys() - cls.model_fields.keys():
            return data
        if data.get("family") is None:
            if data.get("values"):
                raise ValueError(f"values belong to a family, got {data['values']!r} without one")
            return data
        try:
            architecture = Architecture.model_validate({"values": {}, **data})
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error
        return architecture.model_dump()

    @classmethod
    def of(cls, architecture: Architecture) -> Self:
        """The pass that builds ``architecture``."""
        return cls(family=architecture.family, values=architecture.values)

    def architecture(self) -> Architecture | None:
        """What is built; None where the network stays."""
        return None if self.family is None else Architecture(family=self.family, values=self.values)

    def apply(self, model: nn.Module, context: PassContext) -> Outcome:
        """Hand back the student; ``model`` says how many outputs it needs.

        Raises:
            RecipeError: the family does not take the network's inputs, or it does not give one vector a sample.
        """
        architecture = self.architecture()
        if architecture is None:
            return Outcome()
        shape = tuple(context.example.shape[1:])
        try:
            student = build(architecture, shape=shape, n_outputs=_outputs_of(model, context), seed=context.seed)
        except SpaceError as error:
            raise RecipeError(f"student.family: {error}") from error
        what = (
            f"in the place of the network, {count_parameters(student):,} parameters in the place of "
            f"{count_parameters(model):,}"
        )
        return Outcome(changed={architecture.family: what}, rewired=True, network=student.train(model.training))


@torch.no_grad()
def _outputs_of(model: nn.Module, context: PassContext) -> int:
    """How many numbers a sample the network gives."""
    if not context.example.is_floating_point():
        raise RecipeError(
            f"student: families take floating-point inputs, the network takes {context.example.dtype}; leave it out"
        )
    modes = [(module, module.training) for module in model.modules()]
    try:
        shape = model.eval()(context.example).shape
    finally:
        for module, training in modes:
            module.training = training
    if len(shape) != 2:
        raise RecipeError(
            f"student: a student gives one vector a sample, the network gives {list(shape)}; leave it out"
        )
    return int(shape[1])
