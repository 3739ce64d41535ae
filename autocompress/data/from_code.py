"""A ``Task`` from the user's own ``path/file.py:factory``."""

from autocompress.errors import DataError
from autocompress.task import Task
from autocompress.user_code import call_factory


def task_from_code(spec: str) -> Task:
    """What the factory returns; it takes no arguments.

    Raises:
        DataError: it cannot be loaded, fails, or returns something else than a ``Task``.
    """
    task = call_factory(spec, {}, error=DataError)
    if not isinstance(task, Task):
        raise DataError(f"{spec} must return an autocompress Task, got {type(task).__name__}")
    return task
