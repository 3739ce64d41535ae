import tomllib
from pathlib import Path

import pytest

from autocompress.errors import SpaceError
from autocompress.passes import PASSES
from autocompress.precision import Format
from autocompress.search.space import DEFAULT, Range, SearchSpace, Techniques, load_space, shipped_spaces

ROOT = Path(__file__).parents[1]
GOOD = """
schema: 1
name: mine
passes:
  prune_channels: {ratio: {low: 0.1, high: 0.5}, criterion: [l1, taylor]}
  quantize: {precision: [int8]}
"""


@pytest.mark.parametrize("name", shipped_spaces())
def test_every_shipped_space_loads_under_its_own_name_and_says_what_it_is_about(name):
    space = load_space(name)
    assert space.name == name
    assert space.about
    assert set(space.passes.names()) <= set(PASSES)


def test_the_default_space_is_shipped_and_leaves_sparse_weights_and_tied_layers_to_the_space_of_everything():
    assert DEFAULT in shipped_spaces()
    assert set(load_space(DEFAULT).passes.names()) == set(PASSES) - {"prune_weights", "share_layers"}


def test_the_space_of_everything_uses_every_pass():
    assert set(load_space("everything").passes.names()) == set(PASSES)


def test_students_of_an_unknown_family_are_refused_with_the_nearest(tmp_path):
    (tmp_path / "mine.yaml").write_text(GOOD.replace("passes:", "passes:\n  student: {families: [mbconf]}", 1))
    with pytest.raises(SpaceError, match=r"families of students are .*mbconv.*, not 'mbconf'.*mbconv"):
        load_space(str(tmp_path / "mine.yaml"))


def test_a_space_may_use_every_registered_pass_and_lists_them_as_they_run():
    assert set(Techniques.model_fields) == set(PASSES)
    stages = [PASSES[name].stage for name in Techniques.model_fields]
    assert stages == sorted(stages)


def test_the_wheel_contains_the_spaces_where_they_are_looked_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included["search_spaces"] == "autocompress/search_spaces"
    assert {path.parent for path in shipped_spaces().values()} == {ROOT / "search_spaces"}


def test_spaces_inside_the_package_come_first(tmp_path, monkeypatch):
    """As in an installed wheel, which has no folder beside the package."""
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "mine.yaml").write_text(GOOD)
    monkeypatch.setattr("autocompress.paths.resources.files", lambda _: tmp_path)
    assert list(shipped_spaces()) == ["mine"]
    assert load_space("mine").name == "mine"


@pytest.mark.parametrize("name", shipped_spaces())
def test_a_space_survives_its_own_yaml(name):
    space = load_space(name)
    assert SearchSpace.from_yaml(space.to_yaml()) == space


def test_a_file_is_read_as_it_states(tmp_path):
    (tmp_path / "mine.yaml").write_text(GOOD)
    space = load_space(str(tmp_path / "mine.yaml"))
    assert space.passes.names() == ("prune_channels", "quantize")
    assert space.passes.prune_channels.ratio == Range(low=0.1, high=0.5)
    assert space.passes.quantize.precision == (Format.INT8,)


def test_an_unknown_space_is_answered_with_those_there_are_and_the_near_ones():
    with pytest.raises(SpaceError, match=r"one of .*default.* or a YAML file; got 'defualt'; near: default"):
        load_space("defualt")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("high: 0.5", "high: 0.99", r"passes\.prune_channels\.ratio: a pruned ratio lies in \[0, 0\.95\], got"),
        ("low: 0.1", "low: 0.6", r"passes\.prune_channels\.ratio: low must not exceed high, got 0\.6 and 0\.5"),
        ("high: 0.5", "high: .nan", r"passes\.prune_channels\.ratio\.high: Input should be a finite number, got nan"),
        ("[l1, taylor]", "[l2]", r"passes\.prune_channels\.criterion\.0: Input should be 'l1'.*, got 'l2'"),
        ("[l1, taylor]", "[]", r"passes\.prune_channels\.criterion: .*at least 1 item.*, got \[\]"),
        ("[int8]", "[int1]", r"passes\.quantize\.precision\.0: .*'int8'.*, got 'int1'"),
        ("prune_channels:", "prune_chanels:", r"passes\.prune_chanels: Extra inputs are not permitted"),
        ("schema: 1", "schema: 2", r"schema: Input should be less than or equal to 1, got 2"),
        ("name: mine", "about: x", r"name: Field required"),
        ("  quantize:", "  factorize: {rank: {low: 0, high: 1}}\n  quantize:", r"full rank lies in \(0, 1\], got"),
        ("  quantize:", "  drop_blocks: {share: {low: 0, high: 2}}\n  quantize:", r"blocks lies in \[0, 1\], got \[0"),
        (
            "  quantize:",
            "  prune_weights: {sparsity: {low: 0, high: 1}}\n  quantize:",
            r"lies in \[0, 0\.99\], got",
        ),
        ("  quantize:", "  share_weights: {bits: [9]}\n  quantize:", r"bits\.0: .*less than or equal to 8, got 9"),
        (
            "  quantize:",
            "  share_layers: {blocks: [1]}\n  quantize:",
            r"blocks\.0: .*equal to 2, got 1",
        ),
    ],
)
def test_an_error_in_a_space_names_file_place_and_rule(tmp_path, old, new, message):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(SpaceError, match=message) as caught:
        load_space(str(path))
    assert str(path) in str(caught.value)


def test_a_space_without_passes_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\npasses: {}\n")
    with pytest.raises(SpaceError, match=r"mine\.yaml, at the top level: a space uses at least one pass"):
        load_space(str(path))


@pytest.mark.parametrize("text", ["passes: [", "", "- 1"])
def test_what_is_no_space_at_all_is_refused_with_its_file(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(SpaceError, match=r"mine\.yaml"):
        load_space(str(path))


def test_a_space_cannot_run_code(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("!!python/object/apply:os.mkdir [made]\n")
    with pytest.raises(SpaceError, match="must be YAML"):
        load_space(str(path))


def test_a_space_is_cut_down_to_the_techniques_asked_for():
    space = load_space(DEFAULT).only(("quantize",))
    assert space.passes.names() == ("quantize",)
    with pytest.raises(SpaceError, match=r"techniques of the space default are .*; got 'prune'"):
        load_space(DEFAULT).only(("prune",))


def test_a_range_clips_to_its_ends():
    assert [Range(low=0.2, high=0.6).clip(value) for value in (0.0, 0.2, 0.4, 0.6, 1.0)] == [0.2, 0.2, 0.4, 0.6, 0.6]
