"""A task in one line."""

from autocompress.task import Task


def describe(task: Task) -> str:
    """Samples per split, input shape and classes."""
    counts = ", ".join(f"{name} {len(split)}" for name, split in task.splits())
    shape = "x".join(str(size) for size in task.preprocess.shape)
    outputs = f"{len(task.class_names)} classes" if task.class_names else f"{task.n_outputs} outputs"
    return f"{task.name}: {counts} samples; input {shape} {task.preprocess.layout}; {outputs}; {task.metric_name}"
