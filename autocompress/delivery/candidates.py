"""The folder of candidates: a page, a record, and for each architecture a folder that builds itself."""

import html
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autocompress.budget import Metric
from autocompress.delivery.page import own_file, page_environment, plotly_script
from autocompress.delivery.report_text import METRIC_WORDS, quantity
from autocompress.errors import OutputError
from autocompress.facts import write_whole
from autocompress.search.candidates.facts import Candidate, Candidates
from autocompress.students.architecture_file import ArchitectureFile
from autocompress.units import Kind

RECORD, PAGE = "candidates.json", "index.html"
ARCHITECTURE, FILE, README = "architecture.yaml", "model.onnx", "README.md"
# Milliseconds, and bytes as the report has them.
_UNITS = {Metric.LATENCY: ("ms", 1.0), Metric.SIZE: ("kB", 1e3), Metric.RAM: ("MB", 1e6)}
_MARGIN = 0.08


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A cost in the unit it is drawn in."""

    metric: Metric
    unit: str
    factor: float

    def cost(self, each: Candidate) -> float:
        """Of a candidate, in this unit."""
        return float(self.metric.of(each.facts) or 0.0) / self.factor


def check_folder(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that candidates may not be written to; what is written to find out is taken away again.

    Raises:
        OutputError: it holds candidates and ``overwrite`` is not given, or other files, or it cannot be written to.
    """
    if out.is_file():
        raise OutputError(f"--out must be a folder, and {out} is a file; name another place")
    if (out / RECORD).is_file():
        if not overwrite:
            raise OutputError(f"{out} already holds candidates; use --overwrite to replace them, or another --out")
    elif out.is_dir() and any(out.iterdir()):
        raise OutputError(f"{out} holds files that are no candidates; give a new or empty folder to --out")
    _try_to_write(out)


def write_candidates(out: Path, found: Candidates, files: Mapping[str, bytes], *, overwrite: bool) -> None:
    """Write everything beside its place first, then rename; the record comes last. ``files``: folder → ONNX file."""
    try:
        if overwrite:
            _clear(out)
        for each in found.candidates:
            _write_one(out / each.folder, each, found, files[each.folder])
        write_whole(out / PAGE, render_page(found))
        write_whole(out / RECORD, found.to_json())
    except OSError as error:
        raise _not_writable(out, error) from error


def render_page(found: Candidates) -> str:
    """The whole page; it loads nothing from anywhere, and its own policy forbids it to."""
    unit, factor = _UNITS.get(found.axis, ("", 1.0))
    axis = Axis(metric=found.axis, unit=unit, factor=factor)
    raced = any(each.race_steps is not None for each in found.candidates)
    return (
        page_environment({"milliseconds": lambda value: quantity(value, Kind.TIME)})
        .get_template("candidates_template.html")
        .render(
            found=found,
            raced=raced,
            words=METRIC_WORDS,
            settings={each.name: settings_text(each) for each in found.candidates},
            figures={"plot": _figure(found, axis)} if found.candidates else {},
            style=own_file("report.css"),
            script=own_file("report.js"),
            plotly=plotly_script() if found.candidates else "",
        )
    )


def settings_text(each: Candidate) -> str:
    """The parameters in a line."""
    words = {True: "yes", False: "no"}
    return ", ".join(
        f"{name} {words[value] if isinstance(value, bool) else format(value, 'g')}"
        for name, value in each.architecture.values.items()
    )


def _try_to_write(out: Path) -> None:
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise _not_writable(out, error) from error
    finally:
        for folder in missing:
            if folder.is_dir():
                folder.rmdir()


def _not_writable(out: Path, error: OSError) -> OutputError:
    return OutputError(f"--out must be a place that can be written to, got {out}: {error.strerror}")


def _clear(out: Path) -> None:
    (out / RECORD).unlink(missing_ok=True)
    (out / PAGE).unlink(missing_ok=True)
    for folder in out.iterdir() if out.is_dir() else ():
        if (folder / ARCHITECTURE).is_file():
            shutil.rmtree(folder)


def _write_one(folder: Path, each: Candidate, found: Candidates, file: bytes) -> None:
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    kept = ArchitectureFile(
        architecture=each.architecture, shape=found.input_shape, n_outputs=found.n_outputs, seed=found.seed
    )
    write_whole(beside / ARCHITECTURE, kept.to_yaml())
    write_whole(beside / FILE, file)
    write_whole(beside / README, _readme(each, found))
    shutil.rmtree(folder, ignore_errors=True)
    beside.replace(folder)


def _readme(each: Candidate, found: Candidates) -> str:
    facts = each.facts
    interval = "" if facts.latency_interval_ms is None else " [{:.3g}, {:.3g}]".format(*facts.latency_interval_ms)
    predicted = "" if facts.latency_predicted_ms is None else f", {facts.latency_predicted_ms:.3g} ms predicted before"
    where = f"{found.machine.cpu}, {found.target.runtime}, threads {found.target.threads}"
    raced = (
        ""
        if each.race_steps is None
        else f"- {found.metric_name} {quantity(facts.accuracy_val, Kind.FRACTION)} of the validation split of "
        f"{found.data} after {each.race_steps} training steps (the trained weights are not kept)\n"
    )
    return f"""# {each.name}

Number {each.rank} of {len(found.candidates)} for `{found.asked}`.
Input {list(found.input_shape)}, outputs {found.n_outputs}.

```python
import autocompress

model = autocompress.build_student("{ARCHITECTURE}")  # a torch nn.Module with fresh weights
```

- {facts.latency_ms:.3g} ms{interval} measured on {where}{predicted}
- {facts.size_bytes:,} bytes, {facts.params:,} parameters, {facts.macs:,} MACs, counted on `{FILE}`
- evidence {each.evidence:.2f}, from scores without training
{raced}
`{FILE}` holds the untrained network: its costs are true, its outputs mean nothing.
"""


def _figure(found: Candidates, axis: Axis) -> dict[str, Any]:
    """Evidence, or accuracy where there was a race, over the cost that the candidates are spread over."""
    raced = any(each.facts.accuracy_val is not None for each in found.candidates)
    merits = [float(each.facts.accuracy_val or 0.0) if raced else each.evidence for each in found.candidates]
    costs = [axis.cost(each) for each in found.candidates]
    limit = next((row.limit / axis.factor for row in found.candidates[0].rows if row.metric is axis.metric), None)
    look = {"gridcolor": "--rule", "linecolor": "--rule", "zeroline": False, "ticks": "outside", "tickcolor": "--rule"}
    ends = [*costs, limit or costs[0]]
    unit = f" [{axis.unit}]" if axis.unit else ""
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": costs,
        "y": merits,
        "text": [_hover(each, found) for each in found.candidates],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"symbol": "circle", "size": 10, "color": "--finalist", "line": {"color": "--surface", "width": 1}},
    }
    edge = {"color": "--limit", "width": 1.5, "dash": "dash"}
    line = {"type": "line", "xref": "paper", "yref": "paper", "y0": 0, "y1": 1, "line": edge}
    x, y = _range(ends), _range(merits)
    at = None if limit is None else (limit - x[0]) / (x[1] - x[0])
    return {
        "data": [points],
        "layout": {
            "xaxis": look | {"range": x, "title": {"text": f"{METRIC_WORDS[axis.metric]}{unit}", "standoff": 8}},
            "yaxis": look
            | {"range": y, "title": {"text": f"{html.escape(found.metric_name)}, validation" if raced else "evidence"}},
            "shapes": [] if at is None else [line | {"x0": at, "x1": at}],
            "annotations": [],
        },
        "labels": [
            {"x": cost, "y": merit, "text": f"{each.rank}", "color": "--finalist"}
            for each, cost, merit in zip(found.candidates[:3], costs, merits, strict=False)
        ],
    }


def _range(values: list[float]) -> list[float]:
    low, high = min(values), max(values)
    pad = _MARGIN * (high - low) or _MARGIN * max(math.fabs(high), 1e-9)
    return [low - pad, high + pad]


def _hover(each: Candidate, found: Candidates) -> str:
    facts = each.facts
    lines = [
        f"<b>{each.rank}. {html.escape(each.name)}</b>",
        f"{quantity(facts.latency_ms, Kind.TIME)}, {quantity(facts.size_bytes, Kind.BYTES)}",
        f"{quantity(facts.macs, Kind.COUNT)} MACs, {quantity(facts.params, Kind.COUNT)} parameters",
        f"evidence {each.evidence:.2f}",
    ]
    if facts.accuracy_val is not None:
        lines.append(f"{html.escape(found.metric_name)} {facts.accuracy_val:.4f} after {each.race_steps} steps")
    return "<br>".join(lines)
