"""Kernels that are filled in are those of the files: other widths, ranks and precisions than were seen."""

import random
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from tiny_models import shape_of, tiny
from tiny_runs import one_core
from tiny_tasks import task_for

from autocompress.graph.anatomy import anatomy_of
from autocompress.graph.surgery import example_input
from autocompress.hardware.kernels.kernel import Kernel, Tensor
from autocompress.hardware.kernels.rules import Language, Rule, Rules
from autocompress.hardware.kernels.runtime_graph import runtime_graph
from autocompress.hardware.kernels.template import blanks, filled, integers_of, skeleton_of
from autocompress.recipe import PassStep, Recipe, Recovery
from autocompress.search.kernel_templates import KernelTemplates
from autocompress.search.quick_files import QuickFiles
from autocompress.search.topology import Topology, width_class
from autocompress.search.varied import varied
from autocompress.target import Target
from autocompress.trial import Bench, make_structure

INT8 = {"default": {"weights": "int8", "activations": "int8"}}
FLOAT = {"weights": "fp32", "activations": "fp32"}


@lru_cache
def bench_of(name: str) -> tuple[Bench, Topology]:
    model = tiny(name)
    anatomy = anatomy_of(model, example_input(shape_of(name)))
    machine = one_core()
    bench = Bench(
        base=model, task=task_for(name), target=Target(), machine=machine, groups=anatomy.groups, blocks=anatomy.blocks
    )
    return bench, Topology(anatomy, machine.channel_block)


@lru_cache
def files_of(name: str) -> QuickFiles:
    return QuickFiles(*bench_of(name))


def recipe(ratios: dict[str, float], ranks: dict[str, int] | None = None, **others: Any) -> Recipe:
    steps: dict[str, Any] = {"prune_channels": {"ratios": ratios, "criterion": "l1", "align": 1}}
    if ranks:
        factors = {layer: {"method": "svd", "rank": rank} for layer, rank in ranks.items()}
        steps["factorize"] = {"layers": factors, "gain": "smaller"}
    steps |= others
    return Recipe(passes=tuple(PassStep(name=key, settings=value) for key, value in steps.items()), recovery=Recovery())


def kernels_of_export(name: str, wanted: Recipe, tmp_path: Path) -> Counter[str]:
    bench, _ = bench_of(name)
    path = tmp_path / "model.onnx"
    path.write_bytes(make_structure(bench, wanted, threads=1).file)
    return Counter(placed.kernel.signature for placed in runtime_graph(path, bench.target).kernels)


CASES = {
    "residual, float": ("residual", recipe({"features.0.0": 0.4, "features.2.conv1.0": 0.2})),
    "residual, int8, factors": (
        "residual",
        recipe({"features.0.0": 0.25}, {"features.3.conv2.0": 3}, quantize=INT8),
    ),
    "depthwise, mixed": (
        "depthwise",
        recipe({"features.2.0": 0.5}, quantize={**INT8, "layers": {"features.4.0": FLOAT}}),
    ),
    "squeeze-excite, int8": ("squeeze-excite", recipe({"features.0.0": 0.3}, quantize=INT8)),
    "concat, int8": ("concat", recipe({"features.left.0": 0.5, "features.right.0": 0.3}, quantize=INT8)),
    "heads, int8": ("vit blocks", recipe({"blocks.0.attn.qkv": 0.5, "blocks.0.mlp.0": 0.4}, quantize=INT8)),
    "heads, factors, mixed": (
        "vit blocks",
        recipe(
            {"blocks.0.attn.qkv": 0.25, "blocks.1.mlp.0": 0.4},
            {"blocks.1.mlp.2": 5, "blocks.0.attn.proj": 4},
            quantize={**INT8, "layers": {"blocks.1": FLOAT, "head": FLOAT}},
        ),
    ),
}


@pytest.mark.parametrize(("name", "wanted"), CASES.values(), ids=list(CASES))
def test_filled_kernels_are_those_of_the_export(name, wanted, tmp_path):
    """Learned from other widths alone: the wanted recipe itself is not made."""
    bench, topology = bench_of(name)
    templates = KernelTemplates(topology, bench.target)
    draw = random.Random(1)
    for _ in range(4):
        other = varied(wanted, topology, draw)
        file = files_of(name).file(other)
        assert file is not None
        templates.learn(other, file)

    found = templates.kernels(wanted)

    assert found is not None
    assert Counter(kernel.signature for kernel in found) == kernels_of_export(name, wanted, tmp_path)


def test_a_width_with_one_other_of_its_class_is_drawn_as_well_as_that_one():
    """The other one every time would look like a constant: 8 of the 8 and 16 channels that are whole blocks of 8."""
    _, topology = bench_of("residual")
    topology, draw = replace(topology, block=8), random.Random(1)
    _, wanted = CASES["residual, float"]
    widths = [topology.read(varied(wanted, topology, draw)).symbols for _ in range(20)]
    assert {each[2] for each in widths} == {8, 16}


def test_preparing_makes_the_kernels_of_all_recipes_known():
    bench, topology = bench_of("residual")
    mixed = {**INT8, "layers": {"features.3": FLOAT}}
    wanted = [recipe({"features.0.0": ratio}, quantize=plan) for ratio in (0.2, 0.5) for plan in (INT8, mixed)]
    templates = KernelTemplates(topology, bench.target)
    assert all(templates.kernels(each) is None for each in wanted)

    prepared = templates.prepare(wanted, files_of("residual").make, most_files=12)

    assert prepared.known == prepared.asked == 4
    assert prepared.files < 12


def test_a_context_that_no_file_had_is_not_guessed():
    bench, topology = bench_of("residual")
    templates = KernelTemplates(topology, bench.target)
    templates.prepare([recipe({"features.3.conv1.0": 0.375})], files_of("residual").make, most_files=4)

    assert templates.kernels(recipe({"features.3.conv1.0": 0.125})) is not None
    assert templates.kernels(recipe({"features.3.conv1.0": 0.125}, quantize=INT8)) is None


def test_factors_that_are_kept_where_they_are_faster_are_not_read():
    _, topology = bench_of("residual")
    unsure = recipe({}, factorize={"layers": {"head": {"method": "svd", "rank": 2}}})

    assert topology.read(unsure) is None


@pytest.mark.parametrize(
    "bytes_only",
    [
        {"prune_weights": {"layers": {"features.3.conv2.0": {"sparsity": 0.6}}}},
        {"quantize": {"default": {"weights": "int4", "activations": "int8"}}},
        {"share_weights": {"layers": {"features.3.conv2.0": {"bits": 3}}}},
    ],
    ids=lambda steps: next(iter(steps)),
)
def test_what_changes_only_bytes_changes_no_kernel(bytes_only, tmp_path):
    plain, packed = recipe({}, quantize=INT8), recipe({}, **{"quantize": INT8, **bytes_only})
    order = ["prune_channels", "prune_weights", "factorize", "share_weights", "quantize"]
    packed = packed.model_copy(update={"passes": tuple(sorted(packed.passes, key=lambda s: order.index(s.name)))})
    _, topology = bench_of("residual")

    assert topology.read(packed) == topology.read(plain)
    assert kernels_of_export("residual", packed, tmp_path) == kernels_of_export("residual", plain, tmp_path)


@pytest.mark.parametrize("name", ["concat", "residual", "depthwise", "squeeze-excite", "vit blocks"])
def test_widths_are_those_of_the_pruned_network(name):
    _, topology = bench_of(name)
    anatomy, draw = topology.anatomy, random.Random(0)
    for _ in range(5):
        kept = {
            group.name: draw.choice((group.unit * group.chunks, draw.randint(1, group.width)))
            for group in anatomy.groups
        }
        real = [anatomy.widths_after(layer, kept) for layer in anatomy.layers]

        found = topology.widths_after(tuple(kept[group.name] for group in anatomy.groups))

        assert [inputs for inputs, _, _ in found] == [c_in for c_in, _ in real]
        assert [classes for _, classes, _ in found] == [
            tuple(width_class(width, topology.block) for width in widths) for widths in real
        ]
        single = [group for group in anatomy.groups if kept[group.name] == group.unit * group.chunks]
        names = {name for group in single for name in (*group.outs, *group.ins)}
        assert [is_single for _, _, is_single in found] == [layer.name in names for layer in anatomy.layers]


def test_a_dropped_block_shows_in_what_its_neighbours_see():
    _, topology = bench_of("deep residual")
    whole, short = Recipe(), Recipe(passes=(PassStep(name="drop_blocks", settings={"blocks": ["features.3"]}),))

    left = topology.read(short)

    assert left is not None
    assert len(left.layers) == len(topology.read(whole).layers) - 2


def test_kernels_come_back_from_skeleton_and_integers():
    kernel = Kernel(
        "nchwc.Conv",
        (Tensor("float", (1, 8, 4, 4)), Tensor("float", (16, 8, 3, 3), stored=True)),
        (Tensor("float", (1, 16, 4, 4)),),
        (("activation", "Relu"), ("alpha", 0.5), ("axis", 1), ("group", 1), ("pads", (1, 1))),
    )
    other = filled(blanks((kernel,)), range(15))

    assert filled(blanks((kernel,)), integers_of((kernel,))) == (kernel,)
    assert skeleton_of(other) == skeleton_of((kernel,))
    assert integers_of(other) == tuple(range(15))


LANGUAGE = Language(symbols=(0, 1), factors=(Fraction(1), Fraction(3)), block=16)


def test_rules_that_disagree_give_no_integer():
    rules = Rules(LANGUAGE)
    rules.learn((8, 5), (8,))
    assert rules.integers((8, 7)) == (8,)
    assert rules.integers((9, 7)) is None  # 8 may be a constant or the first symbol

    rules.learn((6, 5), (6,))
    assert rules.integers((9, 7)) == (9,)


@pytest.mark.parametrize(
    ("law", "rule"),
    [
        (lambda _, b: 3 * b, Rule((1,), 3)),
        (lambda a, _: -(-a // 16) * 16, Rule((0,), block=16)),
        (lambda _, b: b if b < 16 else -(-b // 16) * 16, Rule((1,), block=16, least=16)),
        (lambda a, b: a + b, Rule((0, 1))),
        (lambda a, _: a + 7, Rule((0,), plus=7)),
    ],
    ids=["multiple", "padded to a block", "padded from a block on", "sum", "with a constant"],
)
def test_a_law_is_found_from_samples(law, rule):
    rules = Rules(LANGUAGE)
    for a, b in ((20, 3), (37, 5), (50, 21)):
        rules.learn((a, b), (law(a, b),))

    assert rule in rules.rules[0]
    assert rules.integers((100, 17)) == (law(100, 17),)
    assert all(rule.quick(symbols) == rule.value(symbols) == law(*symbols) for symbols in ((100, 17), (100, 3)))


def test_an_integer_without_a_law_is_not_known():
    rules = Rules(LANGUAGE)
    for a, b, value in ((20, 3, 1), (37, 5, 90), (50, 11, 4)):
        rules.learn((a, b), (value,))

    assert rules.integers((20, 3)) is None
