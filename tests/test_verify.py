"""A result measured again: what of it is judged in units, and what as a share of the original."""

import pytest
from sample_answers import sample_cost
from sample_certificate import BASELINE, LATENCY, certificate_of

from autocompress.budget import Budget
from autocompress.commands import verify as verifying
from autocompress.commands.verify import verify

FILE, ORIGINAL = b"content", b"o" * BASELINE.size_bytes


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run's folder whose file takes 45 % of the original's 10 ms when both are measured in turns, 6 ms alone."""

    def folder(budget: str, original: bytes | None = ORIGINAL):
        facts = BASELINE.model_copy(update={"latency_ms": 4.4, "size_bytes": 500})
        certificate = certificate_of(budget=Budget.parse(budget).rows(facts, BASELINE, "test"), facts=facts)
        for name, content in (("best/model.onnx", FILE), ("baseline/model.onnx", original)):
            (tmp_path / name).parent.mkdir()
            if content is not None:
                (tmp_path / name).write_bytes(content)
        (tmp_path / "best" / "certificate.json").write_text(certificate.to_json())
        return tmp_path

    def measure_latency(files, target):
        assert [path.read_bytes() for path in files] == [ORIGINAL, FILE]
        return [LATENCY.model_copy(update={"median_ms": ms}) for ms in (14.0, 6.3)]

    alone = sample_cost()
    alone = alone.model_copy(update={"latency": alone.latency.model_copy(update={"median_ms": 6.0}), "size_bytes": 500})
    monkeypatch.setattr(verifying, "measure", lambda *_, **__: alone)
    monkeypatch.setattr(verifying, "measure_latency", measure_latency)
    monkeypatch.setattr(verifying, "_task", lambda *_: None)
    return folder


def test_a_share_of_the_originals_latency_is_measured_anew(run):
    found = verify(run("latency<=50%,size<=50%"))

    assert [(row.value, row.met) for row in found.budget] == [(pytest.approx(4.5), True), (500, True)]
    assert found.latency.median_ms == 6.0
    assert found.notes[-1] == "its latency is judged as a share of the original's, measured in turns: 45.0%"


@pytest.mark.parametrize(
    ("budget", "original"),
    [("latency<=5ms", ORIGINAL), ("latency<=50%", None), ("latency<=50%", b"another")],
    ids=["no share is limited", "the original is gone", "it is another file"],
)
def test_where_there_is_no_share_the_file_alone_is_held_against_what_the_limit_came_out_as(run, budget, original):
    found = verify(run(budget, original))

    assert [(row.value, row.met) for row in found.budget] == [(6.0, False)]
    assert not any("share" in note for note in found.notes)
