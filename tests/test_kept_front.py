"""Files of trials on the front: which are kept, which are taken, and what is said of them."""

from types import SimpleNamespace

import pytest

from autocompress.clock import Clock
from autocompress.graph.program import Portable
from autocompress.measurement import Accuracy, Latency, ModelFacts
from autocompress.recipe import PassStep, Recipe
from autocompress.result import TrialKind, TrialRecord, TrialState
from autocompress.search import front_points, kept_front
from autocompress.search.finalist import FILE, LAYERS, LayersOfFile
from autocompress.search.front_points import MOST_POINTS, front_files
from autocompress.search.kept_front import KeptFront
from autocompress.trial import Product

PORTABLE = Portable(structure="{}", weights=b"w")


def product(file: bytes) -> Product:
    return Product(
        facts=facts(None, None), notes=(), seconds=1.0, file=file, portable=PORTABLE, changed={"quantize: fc": "int8"}
    )


def facts(accuracy: float | None, ms: float | None, size: int = 100) -> ModelFacts:
    return ModelFacts(size_bytes=size, macs=1, params=1, latency_ms=ms, accuracy_val=accuracy)


def record(number: int, found: ModelFacts, structure: int = -1) -> TrialRecord:
    recipe = Recipe(passes=(PassStep(name="drop_blocks", settings={"blocks": [str(structure)]}),))
    return TrialRecord(
        number=number, kind=TrialKind.SEARCH, state=TrialState.COMPLETE, summary="", recipe=recipe, facts=found
    )


def test_only_files_that_no_other_dominates_stay(tmp_path):
    kept = KeptFront(tmp_path)
    for number, found in enumerate([facts(0.8, 2.0), facts(0.7, 1.0), facts(0.6, 3.0), facts(0.9, 1.5)]):
        kept.offer(number, found, product(b"%d" % number))
    assert list(kept.files()) == [1, 3]  # 2 came behind 0, which 3 then put out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "3"]
    assert (kept.files()[3] / FILE).read_bytes() == b"3"
    layers = LayersOfFile.from_json((kept.files()[3] / LAYERS).read_text())
    assert layers.changed == {"quantize: fc": "int8"}


def test_a_file_that_a_killed_session_left_under_a_number_is_never_taken_for_a_later_one(tmp_path):
    killed = KeptFront(tmp_path)
    killed.offer(1, facts(0.8, 2.0), product(b"old"))
    later = KeptFront(tmp_path)
    later.offer(0, facts(0.9, 1.0), product(b"better"))
    later.offer(1, facts(0.8, 2.0), product(b"new"))  # behind the better one
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def test_what_it_puts_out_stays_until_the_new_file_is_whole(tmp_path, monkeypatch):
    kept = KeptFront(tmp_path)
    kept.offer(0, facts(0.8, 2.0), product(b"old"))

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(kept_front, "keep_files", killed)
    with pytest.raises(KeyboardInterrupt):
        kept.offer(1, facts(0.9, 1.0), product(b"new"))
    later = KeptFront(tmp_path)
    later.take_up([record(0, facts(0.8, 2.0)), record(1, facts(0.9, 1.0))])
    assert list(later.files()) == [0]


@pytest.mark.parametrize("found", [facts(None, 1.0), facts(0.9, None)])
def test_what_is_not_known_in_full_has_no_place(tmp_path, found):
    kept = KeptFront(tmp_path)
    kept.offer(0, found, product(b""))
    assert kept.files() == {}


def test_a_later_session_goes_on_with_what_was_kept(tmp_path):
    first = KeptFront(tmp_path)
    first.offer(0, facts(0.8, 2.0), product(b"old"))
    later = KeptFront(tmp_path)
    later.take_up([record(0, facts(0.8, 2.0)), record(1, facts(0.99, 1.0))])
    assert list(later.files()) == [0]
    later.offer(2, facts(0.9, 1.0), product(b"new"))
    assert list(later.files()) == [2]


def latency(ms: float) -> Latency:
    return Latency(median_ms=ms, p95_ms=ms, interval_ms=(ms, ms), rounds=5, runs=50, load_ms=1.0, threads=1)


def taken_of(tmp_path, monkeypatch, count: int, *, left_s: float = 600.0, taken=()):
    """Numbers and facts of what is taken of a front of ``count`` trials, on a machine that has become twice as slow."""
    kept = KeptFront(tmp_path)
    records = [record(number, facts(0.5 + number / 100, 1.0 + number), number) for number in range(count)]
    for each in records:
        kept.offer(each.number, each.facts, product(b"file"))

    def measure_files(baseline, files, target):
        return latency(20.0), {key: latency(2 * (1.0 + key)) for key in files}

    monkeypatch.setattr(front_points, "measure_files", measure_files)
    monkeypatch.setattr(
        front_points, "accuracy_of", lambda *_, **__: Accuracy(value=0.7, interval=(0.6, 0.8), samples=9)
    )
    bench = SimpleNamespace(task=SimpleNamespace(val=range(10)), target=None, machine=SimpleNamespace(cores=1))
    baseline = (b"", latency(10.0))
    return front_files(bench, Clock(left_s), records, kept.files(), taken, baseline=baseline)


def test_files_of_trials_are_measured_at_the_finalists_scale_and_judged_on_the_whole_split(tmp_path, monkeypatch):
    found = taken_of(tmp_path, monkeypatch, 3)
    assert {each.record.number: each.facts.latency_ms for each in found} == {0: 1.0, 1: 2.0, 2: 3.0}
    assert {each.facts.accuracy_val for each in found} == {0.7}
    assert {each.portable for each in found} == {PORTABLE}


def test_of_many_the_ends_come_first_and_the_rest_lies_between(tmp_path, monkeypatch):
    numbers = [each.record.number for each in taken_of(tmp_path, monkeypatch, 20)]
    assert numbers[:2] == [0, 19]
    assert len(numbers) == len(set(numbers)) == MOST_POINTS


def test_there_are_as_many_as_there_is_time_for(tmp_path, monkeypatch):
    assert len(taken_of(tmp_path, monkeypatch, 20, left_s=12.0)) == 2
    assert taken_of(tmp_path, monkeypatch, 20, left_s=1.0) == []


def test_what_a_finalist_dominates_is_not_taken(tmp_path, monkeypatch):
    assert taken_of(tmp_path, monkeypatch, 3, taken=[record(0, facts(0.99, 0.1))]) == []


def test_the_trial_of_a_finalist_is_not_taken_beside_it(tmp_path, monkeypatch):
    finalist = record(9, facts(0.99, 9.0), structure=1)
    found = taken_of(tmp_path, monkeypatch, 3, taken=[finalist])
    assert sorted(each.record.number for each in found) == [0, 2]
