"""What every page of ours is made with: templates beside this file, their filters, style and scripts inside."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from autocompress.delivery.report_text import counted, quantity
from autocompress.units import Kind, format_duration

_FOLDER = Path(__file__).parent


def page_environment(filters: Mapping[str, Any]) -> jinja2.Environment:
    """Templates that escape what they are given; ``filters`` are added to those of every page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bytes": lambda value: quantity(value, Kind.BYTES),
        "count": lambda value: quantity(value, Kind.COUNT),
        "score": lambda value: quantity(value, Kind.FRACTION),
        "duration": format_duration,
        "counted": counted,
        "breakable": _breakable,
        **filters,
    }
    return environment


def own_file(name: str) -> Markup:
    """A file that lies beside this one, taken as it is: it is ours, and holds nothing of a result."""
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))  # noqa: S704


def plotly_script() -> Markup:
    """Plotly itself."""
    from plotly.offline import get_plotlyjs  # noqa: PLC0415 - 5 MB of text that a light path need not read

    return Markup(get_plotlyjs())  # noqa: S704


def _breakable(text: str) -> Markup:
    """A name or limit that a narrow column may break at a sign, rather than anywhere."""
    return Markup("<wbr>").join(re.split(r"(?=[<>]=|[/_]|\.[a-z])|(?<=,)", text))
