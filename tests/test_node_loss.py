"""A node that is lost while the search uses it."""

import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import cloudpickle
import made_up_search
import pytest
import ray
import tiny_runs
from made_up_search import made_up_setting
from ray.cluster_utils import Cluster

from autocompress.clock import Clock
from autocompress.events import Silence
from autocompress.measurement import ModelFacts
from autocompress.recipe import Recovery
from autocompress.result import TrialRecord, TrialState
from autocompress.search.launch_ray import RayLauncher
from autocompress.search.loop import Search
from autocompress.search.study import Study
from autocompress.task import Array

pytestmark = [pytest.mark.slow, pytest.mark.ray]
TRIALS = 4
PATIENCE_S = 200.0


class OneMillisecond:
    """Costs of files that are counted, and not measured."""

    forecaster = None

    def foreseen(self, candidates: Mapping[int, tuple[bytes, ModelFacts]]) -> dict[int, ModelFacts]:  # noqa: ARG002
        return {}

    def measure(
        self,
        candidates: Mapping[int, tuple[bytes, ModelFacts]],
        always: Collection[int] = (),  # noqa: ARG002  # as Costing has it
    ) -> dict[int, ModelFacts]:
        return {key: facts.model_copy(update={"latency_ms": 1.0}) for key, (_, facts) in candidates.items()}


class NodeRemover(Silence):
    """Takes the second node away, without a warning, when the first trial has ended."""

    def __init__(self, cluster: Cluster, node: object, sign: Path) -> None:
        self.cluster, self.node, self.sign, self.was_busy = cluster, node, sign, False

    def trial(self, record: TrialRecord) -> None:  # noqa: ARG002  # as the protocol has it
        if self.node is None:
            return
        self.was_busy = self.sign.exists()
        self.cluster.remove_node(self.node, allow_graceful=False)
        self.node = None


def judging_until_lost(lost: str, sign: Path) -> Callable[[Array, Array], float]:
    """A metric that never ends on the node ``lost``; elsewhere it waits for the ``sign`` that work has begun there."""

    def metric(outputs: Array, targets: Array) -> float:  # as a metric is called
        if ray.get_runtime_context().get_node_id() == lost:
            sign.touch()
            time.sleep(PATIENCE_S)
        ends = time.monotonic() + PATIENCE_S
        while not sign.exists() and time.monotonic() < ends:
            time.sleep(0.02)
        return 0.5

    return metric


@pytest.fixture
def cluster():
    """A head with one CPU."""
    modules = [tiny_runs, made_up_search, sys.modules[__name__]]
    for own in modules:
        cloudpickle.register_pickle_by_value(own)
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield found
    ray.shutdown()
    found.shutdown()
    for own in modules:
        cloudpickle.unregister_pickle_by_value(own)


def test_a_search_goes_on_when_a_node_is_lost(cluster, tmp_path):
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    launcher = RayLauncher(workers=1, address=cluster.address)
    try:
        assert launcher.slots() == 2
        setting, sign = made_up_setting("size<=100MB"), tmp_path / "at work on the second node"
        metric = judging_until_lost(node.node_id, sign)
        task = replace(setting.bench.task, metric=metric, metric_name="own metric")
        setting = replace(
            setting,
            bench=replace(setting.bench, task=task),
            builder=replace(setting.builder, recovery=Recovery(steps=20, batch=32)),
            costing=OneMillisecond(),
            launcher=launcher,
            observer=(remover := NodeRemover(cluster, node, sign)),
        )
        study = Study(tmp_path / "journal", setting.builder.knobs(), seed=0, minimize=False, startup=TRIALS)
        records = Search(setting=setting, study=study, clock=Clock(600.0), most_trials=TRIALS).run()
    finally:
        launcher.close()
    assert remover.was_busy
    assert len(records) == TRIALS
    assert {record.state for record in records} == {TrialState.COMPLETE}
    assert all(record.facts.accuracy_val is not None for record in records)
