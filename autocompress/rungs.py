"""The recovery of a trial cut into rungs: each goes on where the one before ended, and says how good it is by then.

Each rung is a schedule of its own, warm-up and cosine to zero, as the restarts of Loshchilov & Hutter 2017
(https://arxiv.org/abs/1608.03983) whose lengths grow by a factor. So an early rung is a finished, if short, recovery,
whose ranks say what longer ones come to (Li et al. 2020, https://arxiv.org/abs/1905.04753), and rungs of candidates
with different numbers of steps can be compared. On ``digits`` (six recipes, 270 steps; ``tests/benchmarks/rungs.py``)
one long schedule that is cut ranks them as well: Spearman with the end after a ninth and a third of the steps is 0.89
and 1.0, with restarts 0.89 and 0.94. But the restarts end higher, at 66.9 against 65.9 %. What is delivered is
recovered anew in one schedule, where there is time for more than the trial had.

The moments of AdamW are not carried on: they belong to the rates before the restart, are found again during the
warm-up, and would triple the state.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from autocompress.errors import RunError
from autocompress.facts import write_whole
from autocompress.layers.constraint import held_in
from autocompress.passes.compose import Composed
from autocompress.recipe import Recipe
from autocompress.trial import Bench, Made, composed_of, judged, recovered

UNITS = (1, 3, 9)  # steps of all rungs up to each, as shares of the last
LEAST_STEPS = 10  # of the first rung; fewer say nothing


@dataclass(frozen=True, kw_only=True)
class Rung:
    """The steps from ``first`` to ``last`` of a recovery; ``number`` counts from 1."""

    number: int
    first: int
    last: int
    is_final: bool


@dataclass(frozen=True, kw_only=True)
class State:
    """What a rung leaves to the next: the network with its constraints, and its position in the sample stream."""

    composed: Composed
    steps: int


def rungs_of(steps: int, units: tuple[int, ...] = UNITS) -> tuple[Rung, ...]:
    """The rungs of a recovery of so many steps: fewer where the first would be too short to say anything."""
    ends = [max(1, round(steps * unit / units[-1])) for unit in units[:-1]]
    ends = [*(end for end in ends if LEAST_STEPS <= end < steps), steps]
    return tuple(
        Rung(number=number, first=first, last=last, is_final=last == steps)
        for number, (first, last) in enumerate(zip([0, *ends], ends, strict=False), 1)
    )


def run_rung(
    bench: Bench,
    recipe: Recipe,
    state: State | Path | None,
    rung: Rung,
    *,
    threads: int,
    most_samples: int | None = None,
    limit_s: float = float("inf"),
) -> tuple[Made, State]:
    """The candidate at the end of a rung, judged as the file that it is by then, and what the next rung needs.

    Rounding is part of what is compared, so that early rungs are judged by their files, too.

    Args:
        bench: what all trials share.
        recipe: its recovery holds the steps of all rungs.
        state: what the rung before left, or the file in which ``keep_state`` kept it; None before the first.
        rung: where to begin and to end.
        threads: cores to use.
        most_samples: of the validation split that it is judged by.
        limit_s: seconds after which the schedule is at its end whatever steps are left.

    Raises:
        RecipeError: the recipe does not fit the base.
        RunError: recovery broke down, or a kept state does not fit the recipe.
    """
    torch.set_num_threads(threads)
    started = time.monotonic()
    if isinstance(state, Path):
        state = _read_state(bench, recipe, state)
    composed = composed_of(bench, recipe) if state is None else state.composed
    first = rung.first if state is None else state.steps
    if state is not None:
        torch.manual_seed(recipe.seed + rung.first)
    until = recipe.with_steps(rung.last)
    if not rung.is_final:
        recovery = until.recovery.model_copy(update={"quantize_aware": False})
        until = until.model_copy(update={"recovery": recovery})
    made = recovered(bench, until, composed, started=started, first=first, limit_s=limit_s)
    made = judged(made, bench.task, threads=threads, most_samples=most_samples)
    return made, State(composed=composed, steps=made.steps)


def keep_state(state: State, path: Path) -> None:
    """Write the weights whole; what passes do is found again from the recipe."""
    tensors = {name: value.detach().clone().contiguous() for name, value in state.composed.model.state_dict().items()}
    write_whole(path, safetensors.torch.save(tensors, {"steps": str(state.steps)}))


def _read_state(bench: Bench, recipe: Recipe, path: Path) -> State:
    """Raises ``RunError`` where the kept weights are not those of this recipe's network."""
    composed = composed_of(bench, recipe)
    with safetensors.safe_open(path, "pt") as file:
        steps = int(file.metadata()["steps"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    try:
        composed.model.load_state_dict(tensors)
    except RuntimeError as error:
        raise RunError(
            f"a kept rung must hold the weights of its recipe's network, {path} does not: {error}"
        ) from error
    for weight, constraint in held_in(composed.model, composed.constraints):
        with torch.no_grad():
            weight.copy_(constraint.nearest(weight))
    return State(composed=composed, steps=steps)
