"""Families of students: read, checked, counted, drawn from."""

import re
from itertools import islice

import numpy as np
import pytest

from autocompress.errors import SpaceError
from autocompress.students.family import (
    Architecture,
    Family,
    count,
    enumerate_all,
    families_for,
    largest,
    load_family,
    sample,
    shipped_families,
    smallest,
)
from autocompress.students.knobs import FAMILIES, ValueType

VIT = """
schema: 1
name: vit
kind: image
parameters:
  resolution: [0.5, 1]
  tokens: [4]
  width: [48, 64, 96]
  depth: [2, 3]
  heads: [3, 4, 5]
  expansion: [2]
"""


def test_every_family_is_shipped_under_its_own_name_and_says_what_it_is_about():
    assert shipped_families().keys() == FAMILIES.keys()
    for name in FAMILIES:
        family = load_family(name)
        assert (family.name, family.kind) == (name, FAMILIES[name].kind)
        assert family.about
        assert Family.from_yaml(family.to_yaml()) == family


@pytest.mark.parametrize("name", ["vit", "mlp", "conv1d"])
def test_the_count_is_that_of_all_architectures_enumerated(name):
    family = load_family(name)
    digests = {architecture.digest() for architecture in enumerate_all(family)}
    assert len(digests) == count(family)


def test_what_does_not_go_together_is_not_counted_nor_drawn(tmp_path):
    family = written(tmp_path, VIT)  # 3 divides 48 and 96, 4 divides all three, 5 none
    assert count(family) == 2 * 2 * 5 == len(list(enumerate_all(family)))
    rng = np.random.default_rng(0)
    drawn = {sample(family, rng).digest() for _ in range(300)}
    assert drawn == {architecture.digest() for architecture in enumerate_all(family)}


@pytest.mark.parametrize("name", FAMILIES)
def test_an_architecture_survives_its_own_yaml(name):
    family = load_family(name)
    for architecture in (smallest(family), largest(family), sample(family, np.random.default_rng(1))):
        again = Architecture.from_yaml(architecture.to_yaml())
        assert again == architecture
        assert again.digest() == architecture.digest()
        assert [type(value) for value in again.values.values()] == [type(v) for v in architecture.values.values()]


def test_the_same_seed_draws_the_same_architecture():
    family = load_family("mbconv")
    first, again, other = (sample(family, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first == again != other


def test_smallest_and_largest_have_the_least_and_the_most_that_go_together(tmp_path):
    family = written(tmp_path, VIT)
    assert (smallest(family).values["width"], smallest(family).values["heads"]) == (48, 3)
    assert (largest(family).values["width"], largest(family).values["heads"]) == (96, 4)
    assert smallest(load_family("mbconv")).values["squeeze_excite"] is False


def test_a_whole_number_and_the_same_share_are_one_architecture():
    values = smallest(load_family("vit")).values
    one, other = (Architecture(family="vit", values=values | {"resolution": each}) for each in (1, 1.0))
    assert one.digest() == other.digest()


@pytest.mark.parametrize(
    ("shape", "dtype", "names"),
    [
        ((3, 32, 32), "float32", ("convnext", "mbconv", "resnet", "vit")),
        ((12,), "float32", ("mlp",)),
        ((6, 128), "float32", ("conv1d",)),
        ((16,), "int64", ()),
        ((2, 3, 4, 5), "float32", ()),
    ],
)
def test_families_are_found_by_the_input(shape, dtype, names):
    assert families_for(shape, dtype) == names


def test_every_choice_that_is_shipped_and_every_nearest_value_is_one_of_its_parameter():
    for name, knobs in FAMILIES.items():
        family = load_family(name)
        for parameter, knob in knobs.knobs.items():
            assert all(knob.read(choice) == choice for choice in family.parameters[parameter])
            if knob.type is not ValueType.SWITCH:
                assert all(knob.read(knob.nearest(wild)) is not None for wild in (-7, 3.3, 49, 1e9, float("inf")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("name: vit", "name: vti"),
            "at name: a family is one of resnet, mbconv, convnext, vit, mlp, conv1d, got 'vti'; near",
        ),
        (("kind: image", "kind: vector"), "at kind: vit is of kind image, got vector"),
        (("kind: image", "kind: picture"), "at kind: Input should be 'image', 'vector' or 'series', got 'picture'"),
        (("schema: 1", "schema: 2"), "at schema: Input should be less than or equal to 1, got 2"),
        (("kind: image", "kinds: image"), "at kind: Field required"),
        (("kind: image", "kind: image\nsize: 3"), "at size: Extra inputs are not permitted, got 3"),
        (("depth: [2, 3]", "deph: [2, 3]"), "got 'deph'; near: depth"),
        (("  depth: [2, 3]\n", ""), "depth is missing: transformer blocks; a whole number in [1, 24]"),
        (("depth: [2, 3]", "depth: []"), "at parameters: depth has a list of at least one choice, got []"),
        (("depth: [2, 3]", "depth: 2"), "depth has a list of at least one choice, got 2"),
        (("depth: [2, 3]", "depth: [2, 2]"), "depth has each choice once, got 2 twice"),
        (("depth: [2, 3]", "depth: [2, 30]"), "depth must be a whole number in [1, 24], got 30; nearest: 24"),
        (("depth: [2, 3]", "depth: [2.5]"), "depth must be a whole number in [1, 24], got 2.5; nearest: 3"),
        (("depth: [2, 3]", "depth: [true]"), "depth must be a whole number in [1, 24], got True"),
        (("depth: [2, 3]", "depth: [two]"), "depth must be a whole number in [1, 24], got 'two'"),
        (
            ("width: [48, 64, 96]", "width: [50]"),
            "width must be a whole number in [16, 768], in steps of 8, got 50; near",
        ),
        (("[0.5, 1]", "[.nan]"), "resolution must be a number in [0.5, 1], got nan"),
        (
            ("heads: [3, 4, 5]", "heads: [5, 7]"),
            "no choices go together: heads must divide width, got width [48, 64, 96], heads [5, 7]; nearest: heads 4",
        ),
        (("parameters:", "parameters: [1]\nwrong:"), "at parameters: Input should be a valid dictionary"),
        (("name: vit", "name: [vit"), "must be YAML"),
        ((VIT, "- 1"), "at the top level"),
    ],
)
def test_a_file_that_does_not_hold_together_is_refused_with_place_and_value(tmp_path, change, message):
    assert change[0] in VIT
    with pytest.raises(SpaceError, match=re.escape(message)):
        written(tmp_path, VIT.replace(*change))


def test_an_unknown_family_is_refused_with_the_near_ones():
    with pytest.raises(SpaceError, match=r"^a family is one of .*; got 'mbconf'; near: mbconv"):
        load_family("mbconf")


def test_heads_that_do_not_divide_the_width_are_refused_with_the_nearest():
    values = smallest(load_family("vit")).values | {"heads": 5}
    with pytest.raises(ValueError, match="heads must divide width, got width 48, heads 5; nearest: heads 4"):
        Architecture(family="vit", values=values)


def test_enumeration_begins_at_once_however_many_there_are():
    assert len(list(islice(enumerate_all(load_family("mbconv")), 3))) == 3


def written(folder, text: str) -> Family:
    file = folder / "mine.yaml"
    file.write_text(text)
    return load_family(str(file))
