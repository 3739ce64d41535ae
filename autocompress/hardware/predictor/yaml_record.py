"""Records from YAML files that people may have edited: what does not hold is named with its line."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from autocompress.errors import ProfileError
from autocompress.facts import Facts

R = TypeVar("R", bound=Facts)


def read_record(kind: type[R], file: Path, schema: int) -> R:
    """The record in ``file``, whose ``schema`` must be the one that this version writes.

    Raises:
        ProfileError: it cannot be read; with the line.
    """
    try:
        text = file.read_text()
        content = yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise ProfileError(f"{file} must be UTF-8: {error}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ProfileError(f"{file}{place}: must be YAML: {error.problem}; restore the file") from error
    except yaml.YAMLError as error:
        raise ProfileError(f"{file} must be YAML: {error}; restore the file") from error
    if not isinstance(content, dict):
        raise ProfileError(f"{file}, line 1: must map names to values, got {str(content)[:80]!r}; restore the file")
    if isinstance(content.get("schema"), int) and content["schema"] != schema:
        raise ProfileError(
            f"{file}, line {_line(text, ['schema'])}: this version reads schema {schema}, got {content['schema']}; "
            "update autocompress, or make the profile anew with `autocompress profile --anew`"
        )
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ProfileError(
            f"{file}, line {_line(text, first['loc'])}, at {where}: {first['msg']}, got {str(first['input'])[:80]!r}; "
            "restore the file, or make the profile anew with `autocompress profile --anew`"
        ) from error


def _line(text: str, keys: Sequence[str | int]) -> int:
    """The line of the innermost of ``keys`` that is there: what is missing is missed in the part around it."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is None:
        return 1
    line = node.start_mark.line
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = next(((name, value) for name, value in node.value if name.value == str(key)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line
    return int(line) + 1
