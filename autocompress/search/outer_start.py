"""What an outer search begins with."""

from collections.abc import Mapping

from autocompress.recipe import Recipe
from autocompress.search.controls import outer_controls
from autocompress.search.outer import Outer
from autocompress.search.study import Study

UNIFORMS = 4  # combinations that are tried as they are, the control among them


def enqueue_outer(study: Study, outer: Outer, controls: Mapping[str, Recipe], seed: int) -> None:
    """Controls first, then the table's allocation at several aims, uniform combinations, a student of each family."""
    neutral = outer.neutral()
    for name, recipe in {**controls, **outer_controls(outer, seed)}.items():
        study.enqueue(neutral, name, recipe)
    for aim in outer.aims:
        study.enqueue({name: aim if name.startswith("aim.") else value for name, value in neutral.items()})
    for picks in outer.uniforms(UNIFORMS)[1:]:
        study.enqueue(neutral, recipe=outer.remember(outer.recipe_of(picks, neutral), picks))
    for family in outer.students.families if outer.students is not None else ():
        study.enqueue({**neutral, "student": 1.0, "family": family})
