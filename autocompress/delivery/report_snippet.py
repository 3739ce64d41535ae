"""The few lines of Python that run a returned file, with the exact preprocessing it was judged with."""

from autocompress.result import Result
from autocompress.target import Target
from autocompress.task import Layout, Preprocess

_HEAD = """\
import numpy as np
import onnxruntime as ort
"""
_IMAGES = """
{constants}

def prepare(images: np.ndarray) -> np.ndarray:
    \"\"\"uint8 [n, {h}, {w}, {c}] pixels -> float32 [n, {c}, {h}, {w}], as in training.\"\"\"
    scaled = {formula}
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))

"""
_SESSION = """
options = ort.SessionOptions()
options.intra_op_num_threads = {threads}
session = ort.InferenceSession({artifact!r}, options, providers=["CPUExecutionProvider"])

{sample}
(outputs,) = session.run(None, {{session.get_inputs()[0].name: {feed}}})
print(outputs)  # one row a sample; for class numbers: outputs.argmax(axis=1)
"""


def run_snippet(result: Result) -> str | None:
    """Python that loads the best file and runs one batch, with onnxruntime and numpy alone; None without a file."""
    if result.best is None or result.best.artifact is None:
        return None
    return snippet_for(result.input, result.target, result.best.artifact)


def snippet_for(preprocess: Preprocess, target: Target, artifact: str) -> str:
    """Python that loads ``artifact`` and runs one batch, with onnxruntime and numpy alone."""
    image = preprocess.layout is Layout.IMAGE
    session = _SESSION.format(
        threads=target.threads,
        artifact=artifact,
        sample=_sample(preprocess, target.batch),
        feed="prepare(images)" if image else "inputs",
    )
    return _HEAD + (_prepare(preprocess) if image else "") + session


def _prepare(preprocess: Preprocess) -> str:
    c, h, w = preprocess.shape
    names = {"MEAN": preprocess.mean, "STD": preprocess.std}
    constants = "".join(f"{name} = np.array({list(v)}, np.float32)\n" for name, v in names.items() if v is not None)
    formula = "images.astype(np.float32) / 255"
    if preprocess.mean is not None:
        formula += " - MEAN"
    if preprocess.std is not None:
        formula = f"({formula}) / STD"
    return _IMAGES.format(constants=constants, c=c, h=h, w=w, formula=formula)


def _sample(preprocess: Preprocess, batch: int) -> str:
    if preprocess.layout is Layout.AS_STORED:
        shape = (batch, *preprocess.shape)
        return f"inputs = np.zeros({shape}, {preprocess.dtype!r})  # yours, {preprocess.dtype} as in the data"
    c, h, w = preprocess.shape
    resize = " ".join(preprocess.resize.split())
    how = "" if resize == "none" else f", resized before: {resize}"
    return f"images = np.zeros({(batch, h, w, c)}, np.uint8)  # yours{how}"
