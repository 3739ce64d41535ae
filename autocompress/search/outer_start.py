"""What an outer search begins with."""

from collections.abc import Mapping, Sequence

from autocompress.recipe import Recipe
from autocompress.search.allocation.uniform_selections import uniforms
from autocompress.search.controls import outer_controls
from autocompress.search.outer import Outer
from autocompress.search.study import Study

UNIFORMS = 4  # combinations that are tried as they are, the control among them


def enqueue_outer(
    study: Study, outer: Outer, controls: Mapping[str, Recipe], anchors: Sequence[Recipe], seed: int
) -> None:
    """Controls first, the table's allocation among them, then that at other aims where they are open.

    At last uniform combinations and a student of each family. Where no allocation is within the limits, ``anchors``,
    which were measured to be: the choices of the table do not reach all that the space does.
    """
    neutral = outer.neutral()
    for name, recipe in {**controls, **outer_controls(outer, seed)}.items():
        study.enqueue(neutral, name, recipe)
    for recipe in anchors if outer.allocation(neutral) is None else ():
        study.enqueue(neutral, recipe=recipe)
    for aim in outer.aims[1:]:
        study.enqueue(outer.neutral(aim))
    for picks in uniforms(outer.allocator, outer.limits, UNIFORMS)[1:]:
        study.enqueue(neutral, recipe=outer.remember(outer.recipe_of(picks, neutral), picks))
    for family in outer.students.families if outer.students is not None else ():
        study.enqueue({**neutral, "student": 1.0, "family": family})
