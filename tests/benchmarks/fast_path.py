"""Kernels of recipes without their files: how many are known, whether they are right, how fast. Prints JSON.

``python tests/benchmarks/fast_path.py TRAINING.jsonl [MODEL]``: the observations to fit a predictor on, and a
network of ``predictor_recipes``. Two to five minutes on one core.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
from predictor_recipes import _bench as bench_of
from predictor_recipes import drawn

from autocompress.hardware.kept import Circumstances
from autocompress.hardware.kernels.kernel import Kernel
from autocompress.hardware.kernels.runtime_graph import runtime_graph
from autocompress.hardware.predictor.fit import fit
from autocompress.hardware.predictor.observation import Observation
from autocompress.hardware.predictor.predictor import LatencyPredictor
from autocompress.recipe import Recipe
from autocompress.search.forecast import Forecaster
from autocompress.search.kernel_templates import KernelTemplates
from autocompress.search.parameters import RecipeBuilder
from autocompress.search.quick_files import QuickFiles
from autocompress.search.topology import Topology
from autocompress.search.varied import plainly_ranked
from autocompress.trial import Bench, make_structure

FITTED_ON = 150  # observations: what a prediction takes does not depend on them
PREPARED, MOST_FILES, FRESH, CHECKED = 200, 60, 12_000, 3


def main(training: Path, model: str) -> None:
    """Print what was found."""
    bench, builder = bench_of(model)
    topology = Topology(builder.anatomy, bench.machine.channel_block)
    files = QuickFiles(bench, topology)
    templates = KernelTemplates(topology, bench.target)
    prepared = templates.prepare([recipe(builder, seed) for seed in range(PREPARED)], files.make, MOST_FILES)
    fresh = [recipe(builder, 10_000 + seed) for seed in range(FRESH)]
    asked = deepcopy(templates)  # what is found out here must not make the templates faster
    known = [each for each in fresh if asked.kernels(each) is not None]
    # The first half meets kernels that nobody has asked for yet, as a search does in its first seconds.
    forecaster = Forecaster(predictor=predictor_of(training), target=bench.target, templates=templates)
    half = len(known) // 2
    halves = [timed(forecaster, some) for some in (known[:half], known[half:])]
    checked = [equal(bench, templates, each) for each in known[:CHECKED]]
    found = {
        "model": model, "exports": files.exports, **prepared.__dict__, "fresh_known": len(known) / FRESH,
        "checked_equal": sum(checked), "checked_exports": len(checked), "first": halves[0], "next": halves[1],
    }  # fmt: skip
    print(json.dumps(found, indent=2))


def recipe(builder: RecipeBuilder, seed: int) -> Recipe:
    """Any recipe of the default space."""
    rng = np.random.default_rng(seed)
    return builder.recipe({knob.name: drawn(knob, rng) for knob in builder.knobs() if knob.kind != "criterion"})


def predictor_of(training: Path) -> LatencyPredictor:
    """Fitted anew: nothing is remembered of earlier predictions."""
    lines = training.read_text().splitlines()[:FITTED_ON]
    observations = [Observation.model_validate_json(line) for line in lines]
    return fit(observations, Circumstances(cpu="benchmark", isa=(), onnxruntime="1"))


def timed(forecaster: Forecaster, recipes: Sequence[Recipe]) -> dict[str, float]:
    """Recipes a second, all of them known."""
    started = time.process_time()
    found = forecaster.of_recipes(recipes)
    seconds = time.process_time() - started
    assert None not in found
    return {"recipes": len(recipes), "recipes_per_s": round(len(recipes) / seconds)}


def equal(bench: Bench, templates: KernelTemplates, wanted: Recipe) -> bool:
    """Whether the filled kernels are those of the real export, however ordered."""
    filled = templates.kernels(wanted)
    assert filled is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(make_structure(bench, plainly_ranked(wanted), threads=1).file)
        real = Counter(placed.kernel.signature for placed in runtime_graph(path, bench.target).kernels)
    return _signatures(filled) == real


def _signatures(kernels: Sequence[Kernel]) -> Counter[str]:
    return Counter(kernel.signature for kernel in kernels)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "resnet18")
