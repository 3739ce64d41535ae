"""A whole run on a machine that has a latency profile."""

import pytest
from learned_profile import learned_profile
from tiny_runs import SMALL_SPACE, compress_briefly, one_core

from autocompress.budget import Metric
from autocompress.hardware.kept import FOLDER, circumstances_of
from autocompress.hardware.predictor.profile import place_of
from autocompress.result import Status, TrialKind


@pytest.mark.slow
def test_what_is_returned_was_measured_whatever_the_trials_were_forecast(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path / "cache"))
    here = circumstances_of(one_core())
    learned_profile(place_of(here), here)
    space = tmp_path / "small.yaml"
    space.write_text(SMALL_SPACE)

    result = compress_briefly(tmp_path / "run", "latency<=50ms,size<=60%", trials=2, space=str(space))

    assert result.status is Status.MET
    assert result.best.latency_ms <= 50
    assert result.best.latency_predicted_ms is not None
    returned = [
        result.baseline,
        result.best,
        *(row.facts for row in result.controls),
        *(p.facts for p in result.pareto),
    ]
    assert all(facts.latency_ms is not None for facts in returned)
    trained = [trial for trial in result.trial_log if trial.kind is TrialKind.SEARCH and trial.facts.accuracy_val]
    assert any(trial.facts.latency_ms is None for trial in trained)  # their forecasts left nothing open
    assert all(trial.facts.latency_predicted_ms is not None for trial in trained)
    row = next(row for row in result.budget if row.metric is Metric.LATENCY)
    assert (row.value, row.note) == (result.best.latency_ms, "")
