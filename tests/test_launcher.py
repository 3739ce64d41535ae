import os
import sys
from dataclasses import replace

import cloudpickle
import pytest
import ray
import tiny_runs
from tiny_runs import tiny_bench

from autocompress.errors import InputError
from autocompress.recipe import PassStep, Recipe, Recovery
from autocompress.search import launcher as module
from autocompress.search.launch_ray import RayLauncher
from autocompress.search.launcher import Done, Job, SerialLauncher, Work, perform
from autocompress.task import Array
from autocompress.trial import Bench, Product

BRIEF = Recovery(steps=2, batch=8)
INT8 = Recipe(
    passes=(PassStep(name="prune_channels", settings={"ratios": {"down": 0.5}}), PassStep(name="quantize")),
    recovery=BRIEF,
)
WRONG_LAYER = Recipe(passes=(PassStep(name="factorize", settings={"layers": {"nowhere": {"rank": 1}}}),))
DIVERGES = Recipe(recovery=Recovery(steps=4, batch=8, learning_rate=1e30))


def no_memory(outputs: Array, targets: Array) -> float:
    raise MemoryError("made to run out")


def no_number(outputs: Array, targets: Array) -> float:
    return float("nan")


def judged_by(metric) -> Bench:
    bench = tiny_bench()
    return replace(bench, task=replace(bench.task, metric=metric, metric_name="own metric"))


def jobs_of(*recipes: Recipe, work: Work = Work.RUNG) -> list[Job]:
    return [Job(key=key, work=work, recipe=recipe) for key, recipe in enumerate(recipes)]


def run(launcher, bench: Bench, jobs: list[Job]) -> dict[int, Done]:
    return {done.key: done for done in launcher.run(bench, jobs)}


def without_time(product: Product | None) -> Product:
    assert product is not None
    return replace(product, seconds=0.0)


def test_each_kind_of_work_sends_back_what_is_needed_of_it(monkeypatch):
    """A structure its file, a trial its facts alone, a finalist everything."""
    ended = {work: perform(tiny_bench(), Job(key=1, work=work, recipe=INT8)).product for work in Work}
    assert [bool(product.file) for product in ended.values()] == [True, False, True]
    assert [bool(product.portable) for product in ended.values()] == [False, False, True]
    assert [product.facts.accuracy_val is not None for product in ended.values()] == [False, True, True]


def test_a_job_that_raises_ends_alone_with_its_traceback():
    ended = run(SerialLauncher(), tiny_bench(), jobs_of(WRONG_LAYER, DIVERGES, INT8))
    assert "RecipeError: factorize.layers names the layer 'nowhere'" in ended[0].error
    assert ended[0].error.startswith("Traceback")
    assert "RunError: the loss must stay a number" in ended[1].error
    assert ended[2].product is not None
    assert ended[2].error is None


@pytest.mark.parametrize(
    ("metric", "reason"),
    [(no_memory, "MemoryError: made to run out"), (no_number, "MeasurementError: own metric must be a number")],
)
def test_what_the_users_own_code_raises_or_gives_wrong_is_the_error_of_its_job(metric, reason):
    done = perform(judged_by(metric), Job(key=7, work=Work.RUNG, recipe=INT8))
    assert (done.key, done.product) == (7, None)
    assert reason in done.error


@pytest.mark.parametrize("error", [AssertionError, AttributeError, OSError, ImportError, RecursionError])
def test_any_error_is_that_of_its_job(monkeypatch, error):
    def raises(*_, **__):
        raise error("of a kind that nobody thought of")

    monkeypatch.setattr(module, "run_trial", raises)
    assert error.__name__ in perform(tiny_bench(), Job(key=0, work=Work.RUNG, recipe=INT8)).error


def test_ctrl_c_is_no_error_of_a_job(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run_trial", interrupted)
    with pytest.raises(KeyboardInterrupt):
        perform(tiny_bench(), Job(key=0, work=Work.RUNG, recipe=INT8))


def test_the_serial_launcher_works_when_asked_and_one_at_a_time():
    ended = SerialLauncher().run(tiny_bench(), jobs_of(WRONG_LAYER, WRONG_LAYER))
    assert next(ended).key == 0
    assert next(ended).key == 1
    assert SerialLauncher().slots() == 1


@pytest.mark.ray
def test_an_address_without_a_cluster_is_refused():
    with pytest.raises(InputError, match=r"--ray-address must name a running Ray cluster, got 'nonsense'"):
        RayLauncher(workers=1, address="nonsense")


@pytest.fixture(scope="module")
def on_ray():
    for own in (tiny_runs, sys.modules[__name__]):
        cloudpickle.register_pickle_by_value(own)
    launcher = RayLauncher(workers=2)
    yield launcher
    launcher.close()
    for own in (tiny_runs, sys.modules[__name__]):
        cloudpickle.unregister_pickle_by_value(own)


@pytest.mark.slow
@pytest.mark.ray
def test_ray_gives_the_products_that_the_serial_launcher_gives(on_ray):
    bench = tiny_bench()
    jobs = [Job(key=key, work=work, recipe=INT8) for key, work in enumerate(Work)]
    here, there = run(SerialLauncher(), bench, jobs), run(on_ray, bench, jobs)
    assert on_ray.slots() == 2
    assert set(here) == set(there)
    for key, done in here.items():
        assert without_time(done.product) == without_time(there[key].product)


@pytest.mark.slow
@pytest.mark.ray
def test_errors_on_ray_are_those_of_their_jobs(on_ray):
    ended = run(on_ray, tiny_bench(), jobs_of(WRONG_LAYER, DIVERGES, INT8))
    assert "RecipeError: factorize.layers names the layer 'nowhere'" in ended[0].error
    assert "RunError: the loss must stay a number" in ended[1].error
    assert ended[2].product is not None
    (done,) = on_ray.run(judged_by(no_memory), jobs_of(INT8))
    assert "MemoryError: made to run out" in done.error


@pytest.mark.slow
@pytest.mark.ray
def test_a_worker_that_dies_every_time_ends_in_an_error_and_others_go_on(on_ray, monkeypatch):
    """Once is every time here: each further attempt would start another worker."""
    monkeypatch.setattr(on_ray, "_work", ray.remote(max_retries=0)(perform))

    def dies(outputs: Array, targets: Array) -> float:
        os._exit(9)

    (done,) = on_ray.run(judged_by(dies), jobs_of(INT8))
    assert done.error.startswith("WorkerCrashedError")
    (done,) = on_ray.run(tiny_bench(), jobs_of(INT8, work=Work.STRUCTURE))
    assert done.product is not None


@pytest.mark.slow
@pytest.mark.ray
def test_a_job_that_asks_for_more_threads_than_a_node_has_is_not_left_waiting(on_ray):
    job = Job(key=0, work=Work.STRUCTURE, recipe=INT8, threads=64)
    (done,) = on_ray.run(tiny_bench(), [job])
    assert done.product is not None
