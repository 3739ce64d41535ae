import os
import re
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import cloudpickle
import pytest
import ray
import tiny_runs
import torch
from tiny_runs import tiny_bench

from autocompress import divergence
from autocompress.errors import InputError
from autocompress.recipe import PassStep, Recipe, Recovery
from autocompress.rungs import Rung, rungs_of
from autocompress.search import launch_ray
from autocompress.search import launcher as module
from autocompress.search.launch_ray import RayLauncher
from autocompress.search.launcher import Done, Job, SerialLauncher, Work, perform, perform_here, warm_up
from autocompress.task import Array
from autocompress.trial import Bench, Product

BRIEF = Recovery(steps=2, batch=8)
IN_RUNGS = Recovery(steps=90, batch=8)
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
    return [job_of(recipe, work, key) for key, recipe in enumerate(recipes)]


def job_of(recipe: Recipe, work: Work = Work.RUNG, key: int = 0, **more) -> Job:
    """The first rung, where that is the work."""
    rung = rungs_of(recipe.recovery.steps)[0] if work is Work.RUNG else None
    return Job(**({"key": key, "work": work, "recipe": recipe, "rung": rung} | more))


def rung_after_rung(launcher, recipe: Recipe) -> tuple[list[Rung], list[Done]]:
    """The ends of all rungs of one recipe, each begun from what the one before left."""
    rungs, ends, state = rungs_of(recipe.recovery.steps), [], None
    for rung in rungs:
        launcher.submit(tiny_bench(), job_of(recipe, rung=rung, state=state))
        ends.append(launcher.next_done())
        state = ends[-1].state
    return list(rungs), ends


def run(launcher, bench: Bench, jobs: list[Job]) -> dict[int, Done]:
    return {done.key: done for done in launcher.run(bench, jobs)}


def without_time(product: Product | None) -> Product:
    assert product is not None
    return replace(product, seconds=0.0, step_s=None)


def test_each_kind_of_work_sends_back_what_is_needed_of_it():
    """A structure its file; a last rung and a finalist everything."""
    rung = rungs_of(INT8.recovery.steps)[-1]
    works = (Work.STRUCTURE, Work.RUNG, Work.FINALIST)
    ended = [perform_here(tiny_bench(), job_of(INT8, work, rung=rung)).product for work in works]
    assert [bool(product.file) for product in ended] == [True, True, True]
    assert [bool(product.portable) for product in ended] == [False, True, True]
    assert [bool(product.layers) for product in ended] == [False, True, True]
    assert [product.facts.accuracy_val is not None for product in ended] == [False, True, True]


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
    done, state = perform(judged_by(metric), job_of(INT8, key=7))
    assert (done.key, done.product, state) == (7, None, None)
    assert reason in done.error


@pytest.mark.parametrize("error", [AssertionError, AttributeError, OSError, ImportError, RecursionError])
def test_any_error_is_that_of_its_job(monkeypatch, error):
    def raises(*_, **__):
        raise error("of a kind that nobody thought of")

    monkeypatch.setattr(module, "run_rung", raises)
    assert error.__name__ in perform_here(tiny_bench(), job_of(INT8)).error


def test_ctrl_c_is_no_error_of_a_job(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run_rung", interrupted)
    with pytest.raises(KeyboardInterrupt):
        perform(tiny_bench(), job_of(INT8))


def test_the_serial_launcher_works_when_asked_and_one_at_a_time():
    ended = SerialLauncher().run(tiny_bench(), jobs_of(WRONG_LAYER, WRONG_LAYER))
    assert next(ended).key == 0
    assert next(ended).key == 1
    assert SerialLauncher().slots() == 1


def test_what_is_done_here_leaves_threads_and_memory_as_they_were():
    launcher, bench = SerialLauncher(), tiny_bench()
    torch.set_num_threads(2)
    (done,) = launcher.run(bench, [job_of(INT8, Work.DIVERGENCE)])
    assert done.divergences
    assert torch.get_num_threads() == 2
    assert divergence._recording.cache_info().currsize == 1
    launcher.close()
    assert divergence._recording.cache_info().currsize == 0


def test_jobs_that_are_submitted_end_in_their_order_and_only_once():
    launcher = SerialLauncher()
    for job in jobs_of(WRONG_LAYER, WRONG_LAYER):
        launcher.submit(tiny_bench(), job)
    assert [launcher.next_done().key, launcher.next_done().key] == [0, 1]
    with pytest.raises(IndexError):
        launcher.next_done()


@pytest.mark.ray
def test_an_address_without_a_cluster_is_refused():
    with pytest.raises(InputError, match=r"--ray-address must name a running Ray cluster, got 'nonsense'"):
        RayLauncher(workers=1, address="nonsense")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConnectionError("nothing there"), "--ray-address must name a running Ray cluster, got 'auto': nothing there"),
        (RuntimeError("Failed to connect to GCS."), "--ray-address must name a running Ray cluster, got 'auto'"),
        (RuntimeError("Wrong version"), "the Ray cluster at --ray-address 'auto' cannot be joined: Wrong version"),
    ],
)
def test_a_cluster_that_is_there_and_cannot_be_joined_is_not_said_to_be_missing(monkeypatch, error, message):
    def init(**_):
        raise error

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        RayLauncher(workers=1, address="auto")


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_port_where_nothing_listens_is_refused_at_once(monkeypatch, scheme):
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray would try for minutes"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"{scheme}127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=f"must name a running Ray cluster, got '{re.escape(address)}'"):
            RayLauncher(workers=1, address=address)


STARTED = "AUTOCOMPRESS_TEST_STARTED"


def signed_warm_up() -> None:
    """Ends a little later than the launcher's constructor, and leaves a file."""
    warm_up()
    time.sleep(1.0)
    Path(os.environ[STARTED], f"{os.getpid()}").touch()


@pytest.fixture(scope="module")
def on_ray(tmp_path_factory):
    for own in (tiny_runs, sys.modules[__name__]):
        cloudpickle.register_pickle_by_value(own)
        ray.cloudpickle.register_pickle_by_value(own)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STARTED, str(tmp_path_factory.mktemp("started")))
        patch.setattr(launch_ray, "warm_up", signed_warm_up)
        launcher = RayLauncher(workers=2)
        assert not list(Path(os.environ[STARTED]).iterdir())
        launcher.ready()
        launcher.started = [int(each.name) for each in Path(os.environ[STARTED]).iterdir()]
    yield launcher
    launcher.close()
    for own in (tiny_runs, sys.modules[__name__]):
        cloudpickle.unregister_pickle_by_value(own)


@pytest.mark.slow
@pytest.mark.ray
def test_it_is_ready_once_each_slot_has_a_process_that_has_loaded_all(on_ray):
    assert len(set(on_ray.started)) == 2
    on_ray.ready()  # at once


@pytest.mark.slow
@pytest.mark.ray
def test_ray_gives_the_products_that_the_serial_launcher_gives(on_ray):
    bench = tiny_bench()
    jobs = [job_of(INT8, work, key) for key, work in enumerate(Work)]
    here, there = run(SerialLauncher(), bench, jobs), run(on_ray, bench, jobs)
    assert on_ray.slots() == 2
    assert set(here) == set(there)
    for key, done in here.items():
        if done.divergences:
            assert done.divergences == there[key].divergences
        else:
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
def test_a_job_that_asks_for_more_threads_than_a_node_has_is_not_left_waiting(on_ray):
    job = Job(key=0, work=Work.STRUCTURE, recipe=INT8, threads=64)
    (done,) = on_ray.run(tiny_bench(), [job])
    assert done.product is not None


@pytest.mark.slow
@pytest.mark.ray
def test_rungs_on_ray_go_on_from_a_state_that_never_comes_to_the_driver(on_ray):
    recipe = INT8.model_copy(update={"recovery": IN_RUNGS})
    rungs, there = rung_after_rung(on_ray, recipe)
    _, here = rung_after_rung(SerialLauncher(), recipe)
    assert len(rungs) == 3
    assert [done.product.steps for done in there] == [rung.last for rung in rungs]
    assert [without_time(done.product) for done in there] == [without_time(done.product) for done in here]
    assert all(isinstance(done.state, ray.ObjectRef) for done in there)


@pytest.mark.slow
@pytest.mark.ray
def test_batches_run_beside_jobs_that_were_submitted(on_ray):
    on_ray.submit(tiny_bench(), job_of(INT8, Work.STRUCTURE, key=5))
    assert [done.key for done in on_ray.run(tiny_bench(), jobs_of(INT8, work=Work.STRUCTURE))] == [0]
    assert on_ray.next_done().key == 5


@pytest.mark.slow
@pytest.mark.ray
def test_a_worker_that_dies_every_time_ends_in_an_error_and_others_go_on(on_ray, monkeypatch):
    """Once is every time here: each further attempt would start another worker, as the next job does. So it is last."""
    monkeypatch.setattr(on_ray, "_work", ray.remote(max_retries=0, num_returns=2)(perform))

    def dies(outputs: Array, targets: Array) -> float:
        os._exit(9)

    (done,) = on_ray.run(judged_by(dies), jobs_of(INT8))
    assert done.error.startswith("WorkerCrashedError")
    (done,) = on_ray.run(tiny_bench(), jobs_of(INT8, work=Work.STRUCTURE))
    assert done.product is not None
