"""Finishing: what is recovered, what is trained with its roundings, and which finalist is returned."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_up_facts import facts_at, latency

from autocompress.budget import Budget
from autocompress.clock import Clock
from autocompress.events import Remembering, Silence
from autocompress.graph.program import Portable
from autocompress.measurement import Accuracy, ModelFacts
from autocompress.recipe import PassStep, Recipe, Recovery
from autocompress.result import TrialKind, TrialRecord, TrialState
from autocompress.search import recoveries
from autocompress.search.finalist import Finalist, KeptRecord
from autocompress.search.finish import Finish, _best_first
from autocompress.search.full_recovery import fully_recovered
from autocompress.search.goal import Goal
from autocompress.search.kept_front import KeptFront
from autocompress.search.launcher import Done, Job
from autocompress.search.recoveries import FAILED, NO_TIME, Recoveries
from autocompress.trial import Product

INT8 = {"weights": "int8", "activations": "int8"}
CODEBOOK = {"share_weights": {"layers": {"fc": {"bits": 4}}}}


@pytest.mark.parametrize(
    ("passes", "aware"),
    [
        ({}, False),
        ({"quantize": {"default": INT8}}, False),
        ({"quantize": {"default": INT8, "layers": {"fc": {"weights": "int4", "activations": "int8"}}}}, True),
        ({"quantize": {"default": {"weights": "int3"}}}, True),
        ({"quantize": {"default": {"weights": "fp16"}}}, False),
        (CODEBOOK, False),  # float recovery trains the shared values themselves
        (CODEBOOK | {"quantize": {"default": INT8}}, True),
    ],
)
def test_weights_of_few_bits_are_trained_with_their_roundings(passes, aware):
    steps = tuple(PassStep(name=name, settings=settings) for name, settings in passes.items())
    recipe = Recipe(passes=steps, recovery=Recovery(steps=10))
    full = fully_recovered(recipe, 40)
    assert full.recovery == Recovery(steps=40, quantize_aware=aware)
    assert full.passes == recipe.passes
    assert fully_recovered(recipe, 5).recovery.steps == 10


class Kept(Recoveries):
    """Recovering without training."""

    def finalists(self, chosen):
        return [self._keep(each, each.recipe, _product(each)) for each in chosen]


class Candidates(Finish):
    """Finishing without measuring: what ``MEASURED`` says of each trial's latency."""

    def _measure(self, finalists):
        found = []
        for each in finalists:
            ms, high_ms = MEASURED[each.kept.record.number]
            facts = each.facts.model_copy(update={"latency_ms": ms, "latency_interval_ms": (ms, high_ms)})
            record = each.kept.record.model_copy(update={"facts": facts})
            found.append(replace(each, kept=each.kept.model_copy(update={"record": record})))
        return latency(noisy=False), found


# Trial → median and upper end. The better a candidate, the nearer it lies to the limit of 5 ms.
MEASURED = {0: (4.99, 5.2), 1: (4.98, 5.1), 2: (4.95, 4.99), 3: (4.0, 4.1)}


def _product(trial: TrialRecord) -> Product:
    assert trial.facts is not None
    facts = trial.facts.model_copy(update={"latency_ms": None, "latency_predicted_ms": None})
    return Product(
        facts=facts, notes=(), seconds=1.0, file=b"", portable=Portable(structure="{}", weights=b""), layers=()
    )


def trial_of(number: int) -> TrialRecord:
    ms, _ = MEASURED[number]
    facts = facts_at(ms, (ms, ms), accuracy=0.99 - number / 100).with_prediction(1.5, (1.0, 2.0))
    recipe = Recipe(passes=(PassStep(name="prune_channels", settings={"ratios": {f"layer{number}": 0.5}}),))
    return TrialRecord(
        number=number, kind=TrialKind.SEARCH, state=TrialState.COMPLETE, summary="", recipe=recipe, facts=facts,
        within_budget=True,
    )  # fmt: skip


def recoveries_in(folder, launcher, *, left_s=600.0, kind=Recoveries, **others) -> Recoveries:
    return kind(**{
        "bench": None, "launcher": launcher, "clock": Clock(left_s), "observer": Silence(), "folder": folder,
        "threads": 1, "original_step_s": 1.0, **others,
    })  # fmt: skip


def finish_of(folder, numbers, observer=None) -> list[Finalist]:
    goal = Goal(budget=Budget.parse("latency<=5ms"), baseline=facts_at(10.0, (10.0, 10.0)))
    made = recoveries_in(folder, launcher=None, kind=Kept)
    run = Candidates(goal=goal, clock=Clock(600.0), observer=observer or Silence(), recoveries=made, measuring=None)
    return run.run(tuple(map(trial_of, numbers)))[1]


def numbers_of(finalists: list[Finalist]) -> list[int]:
    return [each.kept.record.number for each in finalists]


def test_finalists_within_the_noise_of_the_limit_are_followed_by_some_further_inside(tmp_path):
    assert numbers_of(finish_of(tmp_path, [0, 1, 2, 3])) == [3, 0, 1]  # 2 is no further inside than 0 misses


def test_a_finalist_that_is_surely_inside_goes_before_a_better_one_that_is_not(tmp_path):
    assert numbers_of(finish_of(tmp_path, [1, 2, 3])) == [2, 1]


@pytest.mark.parametrize(("numbers", "order", "said"), [([0, 1], [0, 1], True), ([0, 2], [2, 0], False)])
def test_where_none_is_surely_inside_the_best_by_its_median_is_returned_and_that_is_said(
    tmp_path, numbers, order, said
):
    observer = Remembering(Silence())
    assert numbers_of(finish_of(tmp_path, numbers, observer)) == order
    assert any("only within the noise of its measurement" in note for note in observer.notes) is said


@pytest.mark.parametrize(
    ("accuracy", "as_tried", "first"),
    [(0.75, (2,), 1), (0.71, (2,), 2), (0.75, (), 2), (0.75, (1, 2), 2)],
    ids=["better beyond chance", "better by chance", "both were recovered", "none was"],
)
def test_a_trials_own_file_that_is_surely_inside_gives_way_to_one_that_is_better_beyond_chance(
    accuracy, as_tried, first
):
    """Accuracies within 0.02; trial 1 is at the limit, trial 2 inside, trial 0 beyond it."""

    def finalist(number, accuracy, ms, high_ms):
        facts = facts_at(ms, (ms, high_ms), accuracy)
        facts = facts.model_copy(update={"accuracy_val_interval": (accuracy - 0.02, accuracy + 0.02)})
        record = trial_of(number).model_copy(update={"facts": facts})
        kept = KeptRecord(
            record=record, layers={}, layer_params={}, stored={}, changed={}, is_as_tried=number in as_tried
        )
        return Finalist(folder=Path(), kept=kept)

    goal = Goal(budget=Budget.parse("latency<=5ms"), baseline=facts_at(10.0, (10.0, 10.0)))
    finalists = [finalist(0, 0.9, 5.1, 5.2), finalist(1, accuracy, 4.98, 5.1), finalist(2, 0.7, 4.9, 4.95)]

    assert numbers_of(_best_first(goal, finalists)) == [first, 3 - first, 0]


def test_a_finalist_keeps_what_was_predicted_before_anything_was_measured(tmp_path):
    facts = finish_of(tmp_path, [3])[0].facts
    assert (facts.latency_predicted_ms, facts.latency_predicted_interval_ms) == (1.5, (1.0, 2.0))
    assert facts.latency_ms == 4.0


def with_pace(number: int, step_s: float | None, bits: int = 8) -> TrialRecord:
    quantize = PassStep(name="quantize", settings={"default": {"weights": f"int{bits}", "activations": "int8"}})
    return trial_of(number).model_copy(update={"step_s": step_s, "recipe": Recipe(passes=(quantize,))})


@pytest.mark.parametrize(
    ("paces", "is_taught", "steps"),
    [
        ([(None, 8)], True, 160),  # 0.8 of 200 s at the original's 1 s a step
        ([(None, 8)], False, 118),  # and 0.35 for its outputs
        ([(0.5, 8)], True, 640),  # on two threads in half of what the trial took on one
        ([(0.5, 8), (1.5, 8)], True, 160),
        ([(0.5, 3)], True, 160),  # with roundings no faster than the original
        ([(4.0, 3)], True, 80),
        ([(0.001, 8)], True, 400),  # the most
    ],
)
def test_a_full_recovery_has_the_steps_that_its_own_pace_allows(tmp_path, paces, is_taught, steps):
    bench = SimpleNamespace(task=SimpleNamespace(train=range(64)))
    clock = SimpleNamespace(finish_left_s=200.0)
    run = recoveries_in(tmp_path, None, bench=bench, clock=clock, speedup=2.0, is_taught=is_taught)
    trials = [with_pace(number, *pace) for number, pace in enumerate(paces)]
    assert run.steps(trials) == min(steps, 400)


class Failing:
    """A launcher all of whose jobs fail; ``jobs`` are those that it was given."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def slots(self) -> int:
        return 1

    def run(self, bench, jobs):  # noqa: ARG002  # as the protocol has it
        self.jobs += jobs
        yield from (Done(key=job.key, error="made to fail") for job in jobs)


@pytest.mark.parametrize(("planned", "again"), [(90, False), (120, False), (130, True), (400, True)])
def test_a_finalist_of_an_earlier_session_is_recovered_again_where_there_is_more_time_now(
    tmp_path, monkeypatch, planned, again
):
    monkeypatch.setattr(Recoveries, "steps", lambda *_: planned)
    launcher, trial = Failing(), trial_of(0)
    run = recoveries_in(tmp_path, launcher)
    run._keep(trial, trial.recipe.with_steps(100), replace(_product(trial), steps=100))
    finalists = run.finalists([trial])
    assert bool(launcher.jobs) is again
    assert [each.recipe.recovery.steps for each in finalists] == [100]  # better than none, where that fails


class Ending(Failing):
    """Recoveries that end after ``made`` steps."""

    def __init__(self, made: int) -> None:
        super().__init__()
        self.made = made

    def run(self, bench, jobs):  # noqa: ARG002  # as the protocol has it
        self.jobs += jobs
        yield from (Done(key=job.key, product=replace(_product(trial_of(0)), steps=self.made)) for job in jobs)


@pytest.mark.parametrize(("made", "kept"), [(60, 100), (130, 130)])
def test_recovered_again_for_fewer_steps_the_earlier_one_stays(tmp_path, monkeypatch, made, kept):
    monkeypatch.setattr(Recoveries, "steps", lambda *_: 130)
    trial = trial_of(0)
    run = recoveries_in(tmp_path, Ending(made))
    run._keep(trial, trial.recipe.with_steps(100), replace(_product(trial), steps=100))
    (finalist,) = run.finalists([trial])
    assert finalist.recipe.recovery.steps == kept


def tried(bits: int = 8, seconds: float = 20.0) -> TrialRecord:
    """A trial that had time for 90 of 100 steps."""
    trial = trial_of(0).model_copy(update={"seconds": seconds, "steps": 90, "notes": ("before",)})
    quantize = PassStep(name="quantize", settings={"default": {"weights": f"int{bits}", "activations": "int8"}})
    recipe = trial.recipe.with_steps(100)
    return trial.model_copy(update={"recipe": recipe.model_copy(update={"passes": (*recipe.passes, quantize)})})


def recoveries_with_files(folder, monkeypatch, trial, *, planned, left_s, launcher) -> Recoveries:
    """Trial 0 has a file of its own, of four bytes."""
    monkeypatch.setattr(Recoveries, "steps", lambda *_: planned)
    monkeypatch.setattr(recoveries, "accuracy_of", lambda *_, **__: Accuracy(value=0.7, interval=(0.6, 0.8), samples=9))
    monkeypatch.setattr(recoveries, "facts_of", lambda file: ModelFacts(size_bytes=len(file), macs=2, params=3))
    kept = KeptFront(folder / "front")
    kept.offer(0, trial.facts, replace(_product(trial), file=b"1234", changed={"pass: layer": "what"}))
    return recoveries_in(
        folder, launcher, left_s=left_s, bench=SimpleNamespace(task=None), threads=2, trial_files=kept.files()
    )


@pytest.mark.parametrize(
    ("trial", "plan", "jobs"),
    [
        (tried(), (90, 600.0), []),  # no more steps than the trial had
        (tried(bits=3), (90, 600.0), [0, 1]),  # which are then trained with their roundings
        (tried(), (91, 600.0), [0, 1]),
        (tried(), (91, 24.0), [0]),  # 16 s before the certificate: two threads need 10 for what the trial did
        (tried(seconds=8.0), (91, 24.0), [0, 1]),
        (tried(), (91, 12.0), []),
    ],
)
def test_a_trials_own_file_stands_where_a_full_recovery_would_be_no_more_or_fails(
    tmp_path, monkeypatch, trial, plan, jobs
):
    """Of trial 1 there is no file: nothing is left of it. ``plan``: steps, and seconds until the end."""
    planned, left_s = plan
    launcher = Failing()
    run = recoveries_with_files(tmp_path, monkeypatch, trial, planned=planned, left_s=left_s, launcher=launcher)
    (found,) = run.finalists([trial, trial_of(1)])
    assert [job.key for job in launcher.jobs] == jobs
    assert found.file() == b"1234"
    assert (
        found.note
        == "not recovered in full: trained for 90 steps as a trial of the search, and exported as it was then"
    )
    assert found.kept.record.kind is TrialKind.FINALIST
    assert found.recipe.recovery.steps == 90
    assert (found.facts.size_bytes, found.facts.macs, found.facts.accuracy_val) == (4, 2, 0.7)
    assert (found.facts.latency_ms, found.facts.latency_predicted_ms, found.facts.peak_ram_bytes) == (None, 1.5, None)
    assert found.kept.changed == {"pass: layer": "what"}
    assert found.kept.trial_ms == MEASURED[0][0]
    assert found.kept.record.notes == ("before", FAILED if jobs else NO_TIME)


def test_without_any_file_the_best_is_recovered_however_late_it_is(tmp_path, monkeypatch):
    launcher = Failing()
    run = recoveries_with_files(tmp_path, monkeypatch, tried(), planned=1, left_s=1.0, launcher=launcher)
    assert run.finalists([trial_of(1), trial_of(2)]) == []
    assert [job.key for job in launcher.jobs] == [1]


@pytest.mark.parametrize(("made", "steps"), [(50, 90), (89, 90), (90, 90), (130, 130)])
def test_a_recovery_that_time_cut_short_of_the_trials_own_is_not_taken(tmp_path, monkeypatch, made, steps):
    trial = tried()
    run = recoveries_with_files(tmp_path, monkeypatch, trial, planned=130, left_s=600.0, launcher=Ending(made))
    (found,) = run.finalists([trial])
    assert found.recipe.recovery.steps == steps
    assert (found.file() == b"1234") is (made < 90)
    assert bool(found.note) is (made < 90)


@pytest.mark.parametrize(("before", "steps"), [(50, 90), (100, 100)])
def test_without_time_the_longer_of_the_trials_own_file_and_an_earlier_finalist_stands(
    tmp_path, monkeypatch, before, steps
):
    trial, launcher = tried(), Failing()
    run = recoveries_with_files(tmp_path, monkeypatch, trial, planned=500, left_s=12.0, launcher=launcher)
    run._keep(trial, trial.recipe.with_steps(before), replace(_product(trial), steps=before))
    (found,) = run.finalists([trial])
    assert found.recipe.recovery.steps == steps
    assert launcher.jobs == []


def test_a_record_never_stands_beside_a_file_of_another_recovery(tmp_path, monkeypatch):
    trial = trial_of(0)
    run = recoveries_in(tmp_path, Failing())
    run._keep(trial, trial.recipe, _product(trial))

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(recoveries, "write_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        run._keep(trial, trial.recipe, _product(trial))
    assert run._kept(trial.recipe) is None
