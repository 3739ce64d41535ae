import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np
import pytest
from tiny_runs import tiny_bench

from autocompress.events import Silence
from autocompress.graph.anatomy import anatomy_of
from autocompress.graph.surgery import example_input
from autocompress.recipe import Base, Recovery
from autocompress.search.allocation import sensitivity
from autocompress.search.allocation.choices import Choice
from autocompress.search.allocation.sensitivity import measure_table
from autocompress.search.allocation.table import SensitivityTable
from autocompress.search.launcher import Done, Job, SerialLauncher
from autocompress.search.parameters import RecipeBuilder
from autocompress.search.space import DropRange, PrecisionChoice, PruneRange, SearchSpace, Techniques
from autocompress.trial import Bench

SPACE = SearchSpace(
    name="small",
    passes=Techniques(
        drop_blocks=DropRange(),
        prune_channels=PruneRange(),
        quantize=PrecisionChoice(precision=("int8", "int4", "int2", "fp32")),
    ),
)


@cache
def bench() -> Bench:
    found = anatomy_of(tiny_bench().base, example_input((1, 12, 12)))
    return tiny_bench(groups=found.groups, blocks=found.blocks)


@cache
def builder() -> RecipeBuilder:
    found = anatomy_of(tiny_bench().base, example_input((1, 12, 12)))
    return RecipeBuilder(space=SPACE, anatomy=found, base=Base(model="tiny"), recovery=Recovery(), seed=0, align=4)


@dataclass
class Counting(SerialLauncher):
    """Says what every recipe loses by a formula; ``stops_after`` jobs the user has enough."""

    loss: float = 0.5
    stops_after: float = math.inf
    jobs: list[Job] = field(default_factory=list)

    def run(self, bench: Bench, jobs: Sequence[Job]) -> Iterator[Done]:  # noqa: ARG002  # as the protocol has it
        for job in jobs:
            if len(self.jobs) >= self.stops_after:
                raise KeyboardInterrupt
            self.jobs.append(job)
            yield Done(key=job.key, divergences=(self.loss,) * (1 + len(job.more)))

    @property
    def recipes(self) -> int:
        return sum(1 + len(job.more) for job in self.jobs)


@cache
def measured() -> SensitivityTable:
    return measure_table(bench(), builder(), SerialLauncher())


measure = partial(measure_table, bench(), builder())


def test_everything_is_measured_where_time_allows_and_what_changes_nothing_loses_nothing():
    table = measured()
    assert all(all(row) for row in table.measured)
    assert np.isfinite(table.padded[:, 0]).all()
    assert [row[pick] for row, pick in zip(table.loss, table.unchanged, strict=True)] == [0.0] * len(table.units)
    total = sum(map(len, table.choices))
    assert table.notes == (f"{total} of {total} choices were measured on 256 samples",)


def test_two_bits_lose_more_than_eight_and_a_whole_block_more_than_both():
    table = measured()
    row = dict(zip(table.choices[table.units.index("block")], table.loss[table.units.index("block")], strict=True))
    assert 0 < row[Choice(precision="int8")] < row[Choice(precision="int2")] < row[Choice(drop=True)]


def test_a_second_call_measures_nothing(tmp_path):
    first = Counting()
    table = measure(first, folder=tmp_path)
    second = Counting(loss=7.0)
    assert measure(second, folder=tmp_path) == table
    assert first.recipes > 20
    assert not second.jobs


def test_each_treatment_is_measured_once():
    """A share of channels that comes to the same width is the same treatment."""
    launcher = Counting()
    measure(launcher)
    recipes = [recipe.digest() for job in launcher.jobs for recipe in (job.recipe, *job.more)]
    assert len(set(recipes)) == len(recipes)


def test_a_line_that_was_cut_off_is_passed_over(tmp_path):
    first = Counting()
    table = measure(first, folder=tmp_path)
    (file,) = tmp_path.iterdir()
    lines = file.read_text().split("\n")
    file.write_text("\n".join([*lines[:-2], lines[-2][:20]]))
    second = Counting()
    assert measure(second, folder=tmp_path) == table
    assert second.recipes == 1
    third = Counting()
    assert measure(third, folder=tmp_path) == table
    assert not third.jobs


def test_lines_that_are_no_losses_are_passed_over(tmp_path):
    measure(Counting(), folder=tmp_path)
    (file,) = tmp_path.iterdir()
    entry = json.loads(file.read_text().split("\n")[1])
    bad = [{"treatment": entry["treatment"], "loss": loss} for loss in (-1.0, "much", None)]
    file.write_text("\n".join(map(json.dumps, [*bad, 5, {}])))
    launcher = Counting()
    measure(launcher, folder=tmp_path)
    assert launcher.recipes > 20


def test_other_weights_are_other_losses(tmp_path):
    measure(Counting(), folder=tmp_path)
    other = tiny_bench(groups=bench().groups, blocks=bench().blocks)
    other.base.head.bias.data[0] += 1
    launcher = Counting()
    measure_table(other, builder(), launcher, folder=tmp_path)
    assert launcher.recipes > 20


def test_what_was_measured_before_an_interruption_is_kept(tmp_path):
    interrupted = Counting(stops_after=2)
    with pytest.raises(KeyboardInterrupt):
        measure(interrupted, folder=tmp_path)
    whole, resumed = Counting(), Counting()
    measure(whole)
    measure(resumed, folder=tmp_path)
    assert resumed.recipes == whole.recipes - interrupted.recipes


@dataclass
class Ticking(Counting):
    """A launcher whose recipes take a second each, on a clock of its own."""

    now: float = 0.0

    def run(self, bench: Bench, jobs: Sequence[Job]) -> Iterator[Done]:
        for done in super().run(bench, jobs):
            self.now += len(done.divergences)
            yield done

    def monotonic(self) -> float:
        return self.now


def test_a_time_limit_is_kept_and_said_and_extremes_are_measured_first(monkeypatch):
    launcher = Ticking()
    monkeypatch.setattr(sensitivity, "time", launcher)
    table = measure(launcher, limit_s=12.0)
    assert launcher.now == launcher.recipes == 12
    marks = [mark for row in table.measured for mark in row]
    count = sum(map(len, table.choices))
    assert 12 < sum(marks) < count
    assert table.notes[1] == f"{count - sum(marks)} choices were interpolated: the time was up"
    block = table.units.index("block")
    known = dict(zip(table.choices[block], table.measured[block], strict=True))
    assert known[Choice()]
    assert known[Choice(precision="int2")]
    assert not known[Choice(prune=0.25, precision="int4")]


def test_joint_choices_are_estimated_from_what_their_techniques_lose_alone():
    """Of the real losses all joint ones are hidden: most estimates are within a third of the truth."""
    table = measured()
    known = []
    for row, choices in zip(table.loss, table.choices, strict=True):
        alone = [len(choice.technique_names) < 2 for choice in choices]
        known.append(np.where(alone, row, np.nan))
    errors = []
    for row, hidden, truth in zip(sensitivity.interpolated(table.choices, known), known, table.loss, strict=True):
        assert np.array_equal(row[np.isfinite(hidden)], hidden[np.isfinite(hidden)])
        is_hidden = np.isnan(hidden)
        errors += np.abs(np.log(row[is_hidden] / np.array(truth)[is_hidden])).tolist()
    assert len(errors) > 10
    assert np.median(errors) < math.log(4 / 3)


def test_estimates_learn_how_much_more_than_the_sum_joint_choices_lose():
    choices = tuple(Choice(prune=prune, precision=form) for prune in (0.0, 0.5) for form in ("fp32", "int4"))
    threefold = np.array([0.0, 0.1, 0.2, 0.9])
    *_, (*_, joint) = sensitivity.interpolated([choices] * 6, [threefold] * 5 + [np.array([0.0, 0.1, 0.2, np.nan])])
    assert 0.6 < joint < 0.9


def test_where_a_space_always_rounds_techniques_are_alone_beside_the_mildest_rounding():
    choices = tuple(Choice(prune=prune, precision=form) for prune in (0.0, 0.25, 0.5) for form in ("int8", "int2"))
    known = np.array([0.001, 0.2, np.nan, np.nan, 0.4, np.nan])
    (losses,) = sensitivity.interpolated([choices], [known])
    assert losses[2] == pytest.approx(0.1, abs=0.01)
    assert losses[3] == pytest.approx(0.3, abs=0.01)
    assert losses[5] == pytest.approx(0.6, abs=0.01)


def test_a_stronger_choice_is_not_estimated_to_lose_less():
    choices = tuple(
        Choice(prune=prune, precision=form)
        for prune in (0.0, 0.25, 0.5, 0.75)
        for form in ("fp32", "int8", "int4", "int2")
    )
    known = np.full(len(choices), np.nan)
    known[[0, 3, 12, 5, 10, 15]] = 0.0, 0.2, 0.9, 0.89, 0.3, 0.9  # a mild joint choice loses more than a stronger one
    (losses,) = sensitivity.interpolated([choices], [known])
    assert losses[9] >= losses[5] == 0.89
    assert (np.diff(losses.reshape(4, 4)[:, 0]) >= 0).all()
    assert (np.diff(losses.reshape(4, 4)[0]) >= 0).all()
    assert losses[14] <= 0.9


def test_a_unit_of_which_nothing_is_known_is_estimated_from_the_others():
    choices = (Choice(), Choice(prune=0.5), Choice(prune=0.75))
    nothing = np.array([0.0, np.nan, np.nan])
    _, losses = sensitivity.interpolated([choices, choices], [np.array([0.0, 0.1, 0.4]), nothing])
    assert losses == pytest.approx([0.0, 0.1, 0.4])


def test_a_choice_that_cannot_be_measured_counts_as_broken_and_is_said():
    class Failing(Counting):
        def run(self, bench: Bench, jobs: Sequence[Job]) -> Iterator[Done]:
            for done in super().run(bench, jobs):
                yield Done(key=done.key, divergences=(math.nan, *done.divergences[1:]), error="Traceback\nno numbers")

    notes: list[str] = []

    class Listening(Silence):
        def note(self, text: str) -> None:
            notes.append(text)

    table = measure(Failing(), observer=Listening())
    assert "a choice could not be measured: no numbers" in notes
    assert table.padded[np.isfinite(table.padded)].max() == sensitivity.BROKEN
    assert "could not be measured and count as broken" in table.notes[-1]


def test_of_a_job_whose_process_died_only_what_killed_it_is_lost():
    class Dying(Counting):
        deadly = ""

        def run(self, bench: Bench, jobs: Sequence[Job]) -> Iterator[Done]:
            for job in jobs:
                digests = [recipe.digest() for recipe in (job.recipe, *job.more)]
                self.deadly = self.deadly or (digests[-1] if len(digests) > 1 else "")
                if self.deadly in digests:
                    yield Done(key=job.key, error="the worker died")
                else:
                    yield from super().run(bench, [job])

    launcher = Dying()
    table = measure(launcher)
    assert launcher.deadly
    assert "1 choices could not be measured and count as broken" in table.notes[-1]


def test_a_table_round_trips_and_adds_up():
    table = measured()
    assert SensitivityTable.from_json(table.to_json()) == table
    last = np.array([len(row) - 1 for row in table.loss])
    scores = table.score(np.stack([np.array(table.unchanged), last]))
    assert scores == pytest.approx([0.0, sum(row[-1] for row in table.loss)])
    assert table.picked(last)[0] == table.choices[0][-1]


def test_a_table_whose_rows_do_not_agree_is_refused():
    with pytest.raises(ValueError, match=r"a table has a row of choices for each unit, .* got 1 units, rows of \[1\]"):
        SensitivityTable(units=("a",), choices=((Choice(),),), loss=((),), measured=((),))


def test_where_a_space_always_rounds_the_choice_that_loses_least_stands_for_unchanged():
    choices = (Choice(precision="int2"), Choice(precision="int8"))
    table = SensitivityTable(units=("a",), choices=(choices,), loss=((0.5, 0.01),), measured=((True, True),))
    assert table.unchanged == (1,)
