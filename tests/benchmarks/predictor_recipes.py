"""Recipes of three networks, drawn at random from the default search space, as files."""

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import torch
from predictor_nets import About
from predictor_timm import create, settled

from autocompress.graph.anatomy import anatomy_of
from autocompress.graph.surgery import example_input
from autocompress.hardware.machine import this_machine
from autocompress.recipe import Base, Recovery
from autocompress.search.parameters import Knob, RecipeBuilder, Value
from autocompress.search.space import DEFAULT, load_space
from autocompress.target import Target
from autocompress.task import Layout, Preprocess, Split, Task
from autocompress.trial import Bench, make_structure

EACH = 100
NETWORKS = {  # model → family, kind, input size
    "resnet18": ("resnet", "cnn", 64),
    "mobilenetv3_small_100": ("mobilenetv3", "depthwise", 96),
    "vit_tiny_patch16_224": ("vit", "transformer", 96),
}


def recipe_files() -> Iterator[tuple[About, Callable[[], bytes]]]:
    """What each file is, and what builds it."""
    for model, (family, kind, _) in NETWORKS.items():
        for seed in range(EACH):
            about = About(
                name=f"{model}-recipe-{seed:03d}",
                group="recipes",
                family=family,
                kind=kind,
                precision="mixed",
                treatment=model,
            )
            yield about, lambda model=model, seed=seed: recipe_file(model, seed)


def recipe_file(model: str, seed: int) -> bytes:
    """The untrained file of the recipe that ``seed`` draws."""
    bench, builder = _bench(model)
    rng = np.random.default_rng(seed)
    # The criterion chooses which channels go, not how many; "taylor" would need gradients.
    values = {knob.name: drawn(knob, rng) for knob in builder.knobs() if knob.kind != "criterion"}
    return make_structure(bench, builder.recipe(values), threads=1).file


def drawn(knob: Knob, rng: np.random.Generator) -> Value:
    """Any value of ``knob``, each as likely."""
    if knob.range is None:
        return str(rng.choice(list(knob.choices)))
    return float(rng.uniform(knob.range.low, knob.range.high))


@lru_cache(maxsize=1)
def _bench(name: str) -> tuple[Bench, RecipeBuilder]:
    size = NETWORKS[name][2]
    shape = (3, size, size)
    torch.manual_seed(0)
    model = settled(create(name, size), example_input(shape, batch=4))
    space, machine = load_space(DEFAULT), this_machine()
    anatomy = anatomy_of(model, example_input(shape), blocks="drop_blocks" in space.passes.names())
    bench = Bench(
        base=model,
        task=_noise(size),
        target=Target(),
        machine=machine,
        groups=anatomy.groups,
        blocks=anatomy.blocks,
    )
    builder = RecipeBuilder(
        space=space,
        anatomy=anatomy,
        base=Base(model=name),
        recovery=Recovery(),
        seed=0,
        align=machine.channel_block,
    )
    return bench, builder


def _noise(size: int) -> Task:
    """Images of noise: structures are timed, not judged."""
    images = np.random.default_rng(0).integers(0, 256, (4, size, size, 3), dtype=np.uint8)
    split = Split(inputs=images, targets=np.arange(4) % 10)
    preprocess = Preprocess(layout=Layout.IMAGE, shape=(3, size, size), mean=(0.5,) * 3, std=(0.25,) * 3)
    return Task(name="noise", train=split, val=split, test=split, preprocess=preprocess, n_outputs=10)
