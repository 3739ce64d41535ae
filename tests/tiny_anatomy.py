"""The parts of the tiny models, found once."""

from functools import cache

from tiny_models import inputs_of, tiny

from autocompress.graph.anatomy import Anatomy, anatomy_of


@cache
def anatomy(name: str) -> Anatomy:
    """Layers, channel groups and blocks of the tiny model ``name``."""
    return anatomy_of(tiny(name), inputs_of(name, n=1))
