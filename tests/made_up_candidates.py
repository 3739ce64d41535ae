"""A small family of architectures, drawn from, and a launcher that judges them by their widths."""

from autocompress.measurement import ModelFacts
from autocompress.search.candidates.draw import Pool, Sizes
from autocompress.search.launcher import Done
from autocompress.students.family import Family
from autocompress.trial import Product

SHAPE = (3, 16, 16)
SIZES = Sizes(shape=SHAPE, n_outputs=4, channel_block=16)
FAMILY = {
    "schema": 1,
    "name": "resnet",
    "kind": "image",
    "parameters": {
        "resolution": [0.5, 1.0],
        "width": [8, 16, 24],
        "growth": [1.0, 1.5],
        "depth_1": [1],
        "depth_2": [1, 2],
        "depth_3": [1],
        "depth_4": [0],
        "fine_stem": [True],
        "squeeze_excite": [False],
    },
}


def family() -> Family:
    return Family.model_validate(FAMILY)


def pool(seed: int = 0) -> Pool:
    return Pool(families={"resnet": family()}, sizes=SIZES, seed=seed)


class Judge:
    """A launcher whose accuracies are the widths of the networks."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def slots(self) -> int:
        return 1

    def ready(self) -> None:
        pass

    def run(self, _bench, jobs):
        for job in jobs:
            settings = job.recipe.passes[0].settings
            assert settings["family"] == "resnet"
            assert job.recipe.recovery.distill.logits == 0
            self.seen.append((job.key, job.recipe.recovery.steps))
            accuracy = settings["values"]["width"] / 100 + settings["values"]["growth"] / 1000
            facts = facts_of_accuracy(accuracy)
            product = Product(facts=facts, notes=(), seconds=0.0, steps=job.recipe.recovery.steps)
            yield Done(key=job.key, product=product)

    def close(self) -> None:
        pass


def facts_of_accuracy(accuracy: float) -> ModelFacts:
    return ModelFacts(
        accuracy_val=accuracy, accuracy_val_interval=(accuracy - 0.1, accuracy + 0.1), size_bytes=1, macs=1, params=1
    )
