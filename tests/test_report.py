"""The report: everything that a reader needs is on the page, whatever the run left out, and nothing from elsewhere."""

import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, save
from sample_result import TRACEBACK, bare_infeasible, sample_result

from autocompress.budget import Metric
from autocompress.delivery import report
from autocompress.delivery.report_plot import plots
from autocompress.delivery.report_points import Series, axis_of, frame_of, front, points_of
from autocompress.delivery.report_snippet import run_snippet
from autocompress.delivery.report_text import budget_lines, comparisons, cost_ms, reaches, trial_ms
from autocompress.measurement import ModelFacts
from autocompress.result import Result, Status
from autocompress.target import Target
from autocompress.task import Layout, Preprocess

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "link", "br", "wbr", "path", "circle"}
LINKS = {"src", "href", "srcset", "action", "data", "poster"}


class Page(HTMLParser):
    """Text, attributes and tag balance of a page, without what lies in scripts and styles."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text, self.open, self.attributes = "", [], []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text += data


@pytest.fixture
def render(monkeypatch: pytest.MonkeyPatch):
    """Renders without the 5 MB of Plotly, which say nothing about the page."""
    monkeypatch.setattr(report, "plotly_script", lambda: "/* plotly */")
    return report.render_report


@pytest.fixture(params=["met", "infeasible", "bare"])
def any_result(request: pytest.FixtureRequest) -> Result:
    return bare_infeasible() if request.param == "bare" else sample_result(request.param)


def test_every_page_is_well_formed_and_leads_with_the_verdict(render, any_result):
    source = render(any_result)
    page = Page(source)

    assert page.open == []
    assert source.index(html.escape(any_result.verdict)) < source.index('id="budget"')
    assert ("NOT MET" in page.text) == (any_result.status is Status.INFEASIBLE)
    assert all(word in page.text for word in (any_result.model, any_result.data, any_result.machine.cpu, "1 thread"))


def test_every_limit_is_shown_as_asked_in_units_with_value_and_verdict_in_words(render, any_result):
    text = Page(render(any_result)).text

    for row, line in zip(any_result.budget, budget_lines(any_result), strict=True):
        assert row.text in text
        assert f"{line.limit}{line.value}" in text
        assert {True: "✓ met", False: "✗ not met", None: "– not known"}[row.met] in text


def test_before_and_after_has_every_quantity_with_interval_samples_and_source(render):
    result = sample_result()
    rows = {row.name: row for row in comparisons(result)}

    assert rows["accuracy, test"].source == "evaluated on 360 samples"
    assert rows["accuracy, test"].change.text == "−0.0028"
    assert rows["latency, median"].best.below == "[1.25, 1.28\u00a0ms]"
    assert rows["size of the file"].change.text == "4.8× smaller"
    assert rows["size of the file"].change.below == "21 % of baseline"
    assert {row.source.split()[0] for row in rows.values()} == {"measured", "counted", "evaluated"}
    text = Page(render(result)).text
    assert all(name in text and row.change.text in text for name, row in rows.items())


def test_the_latencys_share_is_shown_with_its_own_interval():
    best = sample_result().best.model_copy(update={"latency_share_interval": (0.354, 0.372)})
    rows = {row.name: row for row in comparisons(sample_result(best=best.model_dump()))}
    assert rows["latency, median"].change.below.endswith("% of baseline [35 %, 37 %]")
    assert "[" not in rows["latency, p95"].change.below


def test_a_quantity_that_grew_says_so():
    base = sample_result().baseline
    best = base.model_copy(update={"size_bytes": base.size_bytes * 3, "macs": base.macs})
    rows = {row.name: row for row in comparisons(sample_result(best=best.model_dump()))}

    assert rows["size of the file"].change.text == "3.0× larger"
    assert rows["size of the file"].better is False
    assert rows["MACs"].change.text == "unchanged"


def test_an_infeasible_page_gives_binding_limits_reachable_values_and_the_nearest_budget(render):
    result = sample_result("infeasible")
    source = render(result)

    assert Page(source).text.count("latency<=0.83ms,size<=170kB,accuracy>=0.96") == 1
    assert source.index('id="why"') < source.index('id="budget"')
    assert [(reach.metric, reach.binding) for reach in reaches(result)] == [
        ("size", True),
        ("latency", True),
        ("accuracy", False),
    ]
    assert 'id="run"' not in source


def test_whatever_the_run_was_given_is_escaped(render):
    evil = '<script>alert("1")</script>'
    base = sample_result()
    log = [trial.model_dump() | {"summary": evil, "control": evil} for trial in base.trial_log]
    layers = [layer.model_dump() | {"layer": evil, "note": evil} for layer in base.layers]
    source = render(
        sample_result(
            model=evil,
            data=evil,
            verdict=evil,
            asked=evil,
            metric_name=evil,
            notes=(evil,),
            trial_log=log,
            layers=layers,
        )
    )

    assert evil not in source
    assert "<script>alert" not in source
    assert Page(source).open == []
    figures = json.loads(re.search(r'id="figures">(.*?)</script>', source, re.DOTALL)[1])
    hovers = [text for trace in figures["plot-latency"]["data"] for text in trace.get("text", [])]
    assert hovers
    assert not any("<script" in text for text in hovers)


def test_no_attribute_points_to_the_network_and_the_page_forbids_itself_to_load_anything(any_result):
    source = report.render_report(any_result)
    page = Page(re.sub(r"<script>.*?</script>", "", source, flags=re.DOTALL))

    links = [value for _, name, value in page.attributes if name in LINKS]
    assert [link for link in links if not link.startswith(("data:", "#"))] == []
    assert "default-src 'none'" in source
    assert "@import" not in source.split("</style>")[0]
    assert "url(" not in source.split("</style>")[0]


def test_a_failed_trial_shows_the_last_line_of_its_traceback(render):
    source = render(sample_result())

    summary = re.findall(r'<summary class="bad">(.*?)</summary>', source)
    assert summary == [html.escape(TRACEBACK.splitlines()[-1], quote=True).replace("&quot;", "&#34;")]


def test_every_trial_layer_control_note_and_stage_is_on_the_page(render):
    result = sample_result()
    text = Page(render(result)).text

    assert all(layer.layer in text and layer.before in text for layer in result.layers)
    assert all(trial.summary in text for trial in result.trial_log)
    assert all(control.name in text and control.note in text for control in result.controls)
    assert all(note in text for note in result.notes)
    assert all(stage in text for stage in result.stage_seconds)
    assert "autocompress verify DIR" in text


def test_a_predicted_latency_is_marked_as_such():
    facts = ModelFacts(size_bytes=1, macs=1, params=1, latency_predicted_ms=2.0)

    assert cost_ms(facts) == "≈ 2 ms"
    assert cost_ms(None) == "—"


def test_a_trial_that_was_never_built_shows_what_ruled_it_out(render):
    result = sample_result()
    ruled_out = result.trial_log[0].model_copy(update={"facts": None, "forecast_ms": 7.25})
    assert trial_ms(ruled_out) == "≈ 7.25 ms"
    page = render(result.model_copy(update={"trial_log": (ruled_out,)}))
    assert "≈ 7.25 ms" in str(page)


def test_plots_place_a_predicted_trial_at_its_prediction_not_at_its_upper_end():
    facts = ModelFacts(size_bytes=1, macs=1, params=1).with_prediction(2.0, (1.0, 3.0))
    axis = axis_of(sample_result().baseline, Metric.LATENCY)
    assert axis.cost(facts) == 2.0
    assert axis.cost(facts.model_copy(update={"latency_ms": 2.5})) == 2.5


def test_plots_show_every_scored_model_once_and_leave_out_the_rest():
    result = sample_result()
    points = points_of(result, axis_of(result.baseline, Metric.LATENCY))
    count = {series: sum(point.series is series for point in points) for series in Series}

    assert count == {
        Series.SEARCH: 18,
        Series.FINALIST: 3,
        Series.CONTROL: 3,  # the original is the baseline; one control could not be made
        Series.EXPORTED: 3,
        Series.BASELINE: 1,
        Series.RETURNED: 1,
    }
    assert [plot.identifier for plot in plots(result)] == ["plot-latency", "plot-size"]
    assert plots(bare_infeasible()) == ()


def test_the_front_is_what_nothing_beats():
    result = sample_result()
    points = points_of(result, axis_of(result.baseline, Metric.SIZE))
    kept = front(points)

    for point in points:
        beaten = any(o.x <= point.x and o.y >= point.y and (o.x, o.y) != (point.x, point.y) for o in points)
        assert beaten == ((point.x, point.y) not in {(best.x, best.y) for best in kept})


def test_the_frame_holds_the_limits_and_leaves_out_only_scores_far_below_the_rest():
    result = sample_result()
    points = points_of(result, axis_of(result.baseline, Metric.LATENCY))
    frame = frame_of(points, 50.0, 0.9)

    assert frame.log
    assert 0 < frame.share_x(50.0) < 1
    assert frame.y[0] < 0.9
    assert [point.y for point in points if point.y < frame.y[0]] == [0.3611]


def test_plots_draw_the_limits_and_say_what_is_missing():
    latency, size = plots(sample_result())
    names = [note["text"] for note in latency.figure["layout"]["annotations"]]

    assert names == ["latency ≤ 1.46 ms", "accuracy drop ≤ 0.0100"]
    assert latency.figure["layout"]["shapes"][-1]["y0"] == pytest.approx(0.9792 - 0.01)
    assert "size ≤ 300 kB" in size.figure["layout"]["annotations"][0]["text"]
    assert "short recovery" in latency.caption
    assert "1 failed trial" in latency.caption


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(
            layout=Layout.IMAGE, shape=(3, 4, 5), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), resize="area\n(PIL)"
        ),
        Preprocess(layout=Layout.IMAGE, shape=(3, 4, 5)),
        Preprocess(layout=Layout.AS_STORED, shape=(6,)),
        Preprocess(layout=Layout.AS_STORED, shape=(7,), dtype="int64"),
    ],
    ids=["normalized image", "plain image", "floats", "tokens"],
)
def test_the_snippet_runs_as_it_stands_and_feeds_what_training_fed(tmp_path, monkeypatch, capsys, preprocess):
    result = sample_result(input=preprocess.model_dump(), target=Target(batch=2).model_dump())
    kind = TensorProto.INT64 if preprocess.dtype == "int64" else TensorProto.FLOAT
    value = [helper.make_tensor_value_info(name, kind, [2, *preprocess.shape]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value[0]], [value[1]])
    (tmp_path / "best").mkdir()
    save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        tmp_path / "best/model.onnx",
    )
    monkeypatch.chdir(tmp_path)

    left: dict[str, object] = {}
    exec(compile(run_snippet(result), "snippet", "exec"), left)

    outputs = left["outputs"]
    expected = np.zeros((2, *preprocess.shape), preprocess.dtype)
    if preprocess.mean is not None:
        expected -= (np.array(preprocess.mean) / np.array(preprocess.std)).astype(np.float32)[:, None, None]
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)
    assert capsys.readouterr().out


def test_no_snippet_without_a_file():
    assert run_snippet(sample_result("infeasible")) is None


def test_a_page_is_written_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "plotly_script", lambda: "")
    report.write_report(sample_result(), tmp_path / "deep" / "report.html")

    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["report.html"]
    assert (tmp_path / "deep" / "report.html").read_text(encoding="utf-8").endswith("</html>")


FRAMES = """<!doctype html><body style="margin:0"><script>
addEventListener("load", () => setTimeout(() => {{
  const seen = [...document.querySelectorAll("iframe")].map((frame) => {{
    const page = frame.contentDocument, view = frame.contentWindow;
    const box = (node) => {{ const r = node.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; }};
    return {{
      width: view.innerWidth, scroll_width: page.documentElement.scrollWidth,
      plots: page.querySelectorAll(".plot .main-svg").length,
      plot_widths: [...page.querySelectorAll(".plot")].map((p) => [p.clientWidth, p.querySelector("svg").clientWidth]),
      labels: [...page.querySelectorAll(".plot")].map((p) => [...p.querySelectorAll(".annotation-text-g")].map(box)),
      stars: [...page.querySelectorAll(".plot")].map((p) => [...p.querySelectorAll(".points path")].map(box)),
      loaded: view.performance.getEntriesByType("resource").map((entry) => entry.name),
    }};
  }});
  const out = document.createElement("pre"); out.id = "seen"; out.textContent = JSON.stringify(seen);
  document.body.append(out);
}}, 1500));
</script>
{frames}
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """A folder behind a server on this machine that notes what it is asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, *_: object) -> None:
            asked.append(self.path)

    folder = tmp_path / "site"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.mark.chromium
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_browser_shows_it_without_errors_requests_or_sideways_scrolling(served, tmp_path):
    folder, address, asked = served
    pages = {"met": sample_result(), "infeasible": sample_result("infeasible"), "bare": bare_infeasible()}
    for name, result in pages.items():
        report.write_report(result, folder / f"{name}.html")
    shapes = [(name, width) for name in pages for width in (390, 1280)]
    frames = "".join(f'<iframe src="{n}.html" style="border:0;width:{w}px;height:900px"></iframe>' for n, w in shapes)
    (folder / "frames.html").write_text(FRAMES.format(frames=frames))

    seen, console = _browse(f"{address}/frames.html", tmp_path / "profile")

    assert console == []
    assert sorted(set(asked) - {"/favicon.ico"}) == ["/bare.html", "/frames.html", "/infeasible.html", "/met.html"]
    for (name, width), page in zip(shapes, seen, strict=True):
        assert page["width"] == width
        assert page["scroll_width"] <= width, f"{name} scrolls sideways at {width} px"
        assert page["loaded"] == []
        assert (page["plots"] > 0) == (name != "bare")
        assert all(drawn == place for place, drawn in page["plot_widths"])
        for labels, symbols in zip(page["labels"], page["stars"], strict=True):
            assert not _collisions(labels, labels), f"labels of {name} hide each other at {width} px"
            assert len(_collisions(labels, symbols)) <= 1, f"labels of {name} hide points at {width} px"


def _browse(address: str, profile: Path) -> tuple[list[dict], list[str]]:
    """What the page at ``address`` left in ``#seen``, and every line that it wrote to the console."""
    quiet = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    quiet += " --disable-component-update --disable-sync --enable-logging=stderr --v=0 --window-size=1300,900"
    command = [CHROMIUM, *quiet.split(), "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    command += [f"--user-data-dir={profile}", "--virtual-time-budget=20000", "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    return json.loads(html.unescape(found[1])), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def _collisions(some: list[list[float]], others: list[list[float]]) -> list[tuple[list[float], list[float]]]:
    """Pairs of boxes that share more than a pixel each way."""
    return [
        (a, b)
        for a in some
        for b in others
        if a is not b and min(a[2], b[2]) - max(a[0], b[0]) > 1 and min(a[3], b[3]) - max(a[1], b[1]) > 1
    ]
