"""One specification, one task."""

from dataclasses import replace
from pathlib import Path

from autocompress.data.digits import read_digits
from autocompress.data.folder import read_folder
from autocompress.data.from_code import task_from_code
from autocompress.data.inputs import with_canonical_inputs
from autocompress.data.labels import with_class_numbers
from autocompress.data.loaded import Loaded
from autocompress.data.metrics import balanced_accuracy
from autocompress.data.npz import read_npz
from autocompress.data.options import DataOptions, Metric, Progress
from autocompress.data.preprocess import MEASURED, preprocess_of, with_input_size, with_normalization
from autocompress.data.splits import with_all_splits
from autocompress.errors import DataError
from autocompress.paths import near_path
from autocompress.task import Augment, Layout, Preprocess, Task
from autocompress.user_code import is_code

FORMS = "digits, a .npz file, a folder of class folders, or path/file.py:factory"


def load_task(spec: str, *, options: DataOptions | None = None, progress: Progress | None = None) -> Task:
    """The task that ``spec`` means: ``digits``, a ``.npz``, a folder of class folders, or ``path/file.py:factory``.

    A missing val or test is cut from train, and the notes say so. ``progress`` is told of folders as they are read.

    Raises:
        DataError: nothing there, or data that does not fit together.
    """
    options = options or DataOptions()
    if is_code(spec):
        return _with_options(task_from_code(spec), options)
    loaded = _read(spec, options, progress)
    return _with_options(_as_task(loaded, options), options)


def _read(spec: str, options: DataOptions, progress: Progress | None) -> Loaded:
    if spec == "digits":
        return read_digits()
    path = Path(spec).expanduser()
    if path.is_dir():
        return read_folder(path, input_size=options.input_size, skip_bad=options.skip_bad_images, progress=progress)
    if not path.exists():
        raise DataError(f"data must be {FORMS}; there is no {spec}{near_path(path)}")
    if path.suffix != ".npz":
        raise DataError(f"data must be {FORMS}; got the file {spec}; convert it with numpy.savez")
    return read_npz(path)


def _as_task(loaded: Loaded, options: DataOptions) -> Task:
    checked = with_all_splits(with_class_numbers(with_canonical_inputs(loaded)), seed=options.seed)
    assert checked.val is not None
    assert checked.test is not None
    preprocess = preprocess_of(checked.train.inputs, resize=checked.resize)
    return Task(
        name=checked.name,
        train=checked.train,
        val=checked.val,
        test=checked.test,
        preprocess=preprocess,
        n_outputs=len(checked.class_names),
        class_names=checked.class_names,
        augment=_default_augment(preprocess),
        notes=checked.notes + ((MEASURED,) if preprocess.layout is Layout.IMAGE else ()),
    )


def _default_augment(preprocess: Preprocess) -> Augment:
    if preprocess.layout is not Layout.IMAGE:
        return Augment.NONE
    # A mirrored photograph is still one; what is grey is often writing or a scan, where left and right matter.
    return Augment.SHIFT_FLIP if preprocess.shape[0] == 3 else Augment.SHIFT


def _with_options(task: Task, options: DataOptions) -> Task:
    if options.input_size is not None:
        task = with_input_size(task, options.input_size)
    if (options.mean is None) != (options.std is None):
        given, lacking = ("mean", "std") if options.std is None else ("std", "mean")
        raise DataError(f"mean and std come together; got {given} alone; add {lacking}")
    if options.mean is not None and options.std is not None:
        task = with_normalization(task, options.mean, options.std)
    if options.augment is not None:
        task = _with_augment(task, options.augment)
    return _with_balanced_accuracy(task) if options.metric is Metric.BALANCED_ACCURACY else task


def _with_augment(task: Task, augment: Augment) -> Task:
    if augment is not Augment.NONE and task.preprocess.layout is not Layout.IMAGE:
        raise DataError(f"augment {augment} is for uint8 images; {task.name} is taken as stored; use {Augment.NONE}")
    return replace(task, augment=augment)


def _with_balanced_accuracy(task: Task) -> Task:
    if not task.is_classification:
        raise DataError(f"balanced_accuracy is for classification; {task.name} brings its own loss or metric")
    return replace(task, metric=balanced_accuracy, metric_name=Metric.BALANCED_ACCURACY.value)
