"""A folder that holds one model with all that belongs to it, and the way back from it to a trainable network."""

import os
import shutil
from pathlib import Path

from autocompress.delivery.certificate import Certificate
from autocompress.delivery.report_snippet import snippet_for
from autocompress.errors import InputError
from autocompress.facts import write_whole
from autocompress.graph.program import Portable, ProgramModule, from_portable
from autocompress.recipe import Recipe

FILE, RECIPE, CERTIFICATE, README = "model.onnx", "recipe.yaml", "certificate.json", "README.md"
STRUCTURE, WEIGHTS = "structure.json", "model.safetensors"


def write_bundle(
    folder: Path, file: bytes, portable: Portable, recipe: Recipe, certificate: Certificate, *, note: str = ""
) -> None:
    """Write the folder whole: beside its place first, then renamed over what was there.

    ``note`` is what the README says of the model first.
    """
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    write_whole(beside / FILE, file)
    write_whole(beside / RECIPE, recipe.to_yaml())
    write_whole(beside / CERTIFICATE, certificate.to_json())
    write_whole(beside / STRUCTURE, portable.structure)
    write_whole(beside / WEIGHTS, portable.weights)
    write_whole(beside / README, _readme(certificate, note))
    shutil.rmtree(folder, ignore_errors=True)
    beside.replace(folder)


def read_certificate(folder: Path) -> Certificate:
    """The certificate in a bundle.

    Raises:
        InputError: no certificate there, or one that cannot be read.
    """
    path = folder / CERTIFICATE
    if not path.is_file():
        raise InputError(
            f"a result folder holds {CERTIFICATE}, and {folder} does not; give a run's folder or its best/"
        )
    try:
        return Certificate.from_json(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is not a certificate of this version: {error}") from error


def bundle_in(folder: Path) -> Path:
    """``folder`` itself if it is a bundle, else its ``best/``."""
    return folder if (folder / CERTIFICATE).is_file() else folder / "best"


def load(folder: str | Path) -> ProgramModule:
    """The compressed network as a trainable ``nn.Module``, from a run's folder or a bundle in it.

    It is rebuilt from its operators and weights; the code that defined the original is not needed. Weights are in
    fp32: int8 exists in the ONNX file only.

    Raises:
        InputError: the folder does not hold a network.
        ModelError: its files do not belong together.
    """
    place = bundle_in(Path(folder))
    missing = [name for name in (STRUCTURE, WEIGHTS) if not (place / name).is_file()]
    if missing:
        raise InputError(f"a result folder holds {STRUCTURE} and {WEIGHTS}; {place} lacks {', '.join(missing)}")
    return from_portable(Portable(structure=(place / STRUCTURE).read_text(), weights=(place / WEIGHTS).read_bytes()))


def _readme(certificate: Certificate, note: str) -> str:
    first = f"This model was {note}.\n\n" if note else ""
    rows = "\n".join(
        f"| {row.text} | {row.limit:.6g} | {'not known' if row.value is None else f'{row.value:.6g}'} | "
        f"{'met' if row.met else 'NOT MET'} |"
        for row in certificate.budget
    )
    return f"""# {certificate.file.name}

{first}Made by autocompress; measured on {certificate.machine.cpu}, {certificate.target.runtime},
{certificate.target.threads} thread(s), batch {certificate.target.batch}. `certificate.json` holds every number with its
interval, `recipe.yaml` how it was made; `structure.json` and `model.safetensors` are the same network for PyTorch
(`autocompress.load`).

| limit | in units | this file | |
| --- | --- | --- | --- |
{rows}

```python
{snippet_for(certificate.input.preprocess(), certificate.target, certificate.file.name)}```
"""
