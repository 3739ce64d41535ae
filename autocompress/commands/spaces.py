"""Search spaces and families of students: what there is, whether a file is one, and how much it holds."""

import math
from pathlib import Path

import yaml

from autocompress.errors import SpaceError, near
from autocompress.facts import Facts
from autocompress.search.space import Range, SearchSpace, load_space, shipped_spaces
from autocompress.students.family import Family, count, load_family, shipped_families

CONTINUOUS = "continuous"


class CountedSpace(Facts):
    """A search space. ``choices`` maps ``pass.setting`` to how many values it has, or to ``continuous``.

    ``per_stage`` is how many combinations of one stage there are, all passes together; None where one is continuous.
    """

    file: str
    space: SearchSpace
    choices: dict[str, int | str]
    per_stage: int | None


class CountedFamily(Facts):
    """A family and the exact number of its architectures."""

    file: str
    family: Family
    architectures: int


class Spaces(Facts):
    """What ``spaces`` found."""

    spaces: tuple[CountedSpace, ...]
    families: tuple[CountedFamily, ...]


def spaces(name_or_file: str | None = None) -> Spaces:
    """The shipped search spaces and families, or the one named, checked and counted.

    Raises:
        SpaceError: neither a space nor a family has this name, or a file that does not hold together.
    """
    known_spaces, known_families = shipped_spaces(), shipped_families()
    if name_or_file is None:
        return Spaces(
            spaces=tuple(counted_space(name) for name in known_spaces),
            families=tuple(counted_family(name) for name in known_families),
        )
    path = known_spaces.get(name_or_file) or known_families.get(name_or_file) or Path(name_or_file)
    if not path.is_file():
        known = [*known_spaces, *known_families]
        raise SpaceError(
            f"a space is one of {', '.join(known_spaces)}, a family one of {', '.join(known_families)}, or either is a "
            f"YAML file; got {name_or_file!r}{near(name_or_file, known)}"
        )
    if _is_family(path):
        return Spaces(spaces=(), families=(counted_family(name_or_file),))
    return Spaces(spaces=(counted_space(name_or_file),), families=())


def counted_space(name_or_file: str) -> CountedSpace:
    """A search space with the number of choices of each setting."""
    space = load_space(name_or_file)
    choices: dict[str, int | str] = {}
    for technique in space.passes.names():
        for setting, values in getattr(space.passes, technique):
            choices[f"{technique}.{setting}"] = _choices_of(values)
    numbers = [each for each in choices.values() if isinstance(each, int)]
    per_stage = math.prod(numbers) if len(numbers) == len(choices) else None
    return CountedSpace(file=name_or_file, space=space, choices=choices, per_stage=per_stage)


def counted_family(name_or_file: str) -> CountedFamily:
    """A family with the number of its architectures."""
    family = load_family(name_or_file)
    return CountedFamily(file=name_or_file, family=family, architectures=count(family))


def _choices_of(values: Range | tuple[object, ...]) -> int | str:
    if isinstance(values, Range):
        return 1 if values.low == values.high else CONTINUOUS
    return len(values)


def _is_family(path: Path) -> bool:
    """Whether a file means to be a family: one names parameters or a kind, a search space names passes.

    Raises:
        SpaceError: it is neither.
    """
    try:
        read = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpaceError(f"{path} must be YAML: {error}") from error
    keys = {str(key) for key in read} if isinstance(read, dict) else set()
    if "passes" in keys:
        return False
    if keys & {"parameters", "kind"}:
        return True
    got = ", ".join(sorted(keys)) or f"{read!r:.60}"
    raise SpaceError(
        f"{path} must be a search space, which has passes, or a family of students, which has parameters; got {got}; "
        "begin with a copy of one that is shipped"
    )
