"""Things found by name."""

import pytest

from autocompress.errors import RecipeError, near
from autocompress.registry import Registry


@pytest.fixture
def colours() -> Registry[int]:
    registry: Registry[int] = Registry("colour", RecipeError)
    registry.register("red")(1)
    registry.register("green")(2)
    return registry


def test_things_are_found_in_the_order_of_registration(colours):
    assert (list(colours), dict(colours.items()), colours["green"]) == (["red", "green"], {"red": 1, "green": 2}, 2)
    assert "red" in colours
    assert "blue" not in colours


def test_registering_returns_its_subject_so_that_it_decorates(colours):
    @colours.register("blue")
    def blue():
        """Blue."""

    assert colours["blue"] is blue


def test_a_wrong_name_is_answered_with_all_and_the_near_ones(colours):
    with pytest.raises(RecipeError, match=r"^colour must be one of red, green; got 'gren'; near: green$"):
        colours["gren"]
    with pytest.raises(RecipeError, match=r"^colour must be one of red, green; got 'xyz'$"):
        colours["xyz"]


def test_a_name_is_taken_once(colours):
    with pytest.raises(ValueError, match=r"^colour 'red' is registered twice$"):
        colours.register("red")(3)


def test_near_names_are_at_most_three_best_first():
    known = ["resnet18", "resnet26", "resnet34", "resnet50", "vit"]
    assert near("resnet19", known).startswith("; near: resnet18, ")
    assert near("resnet19", known).count(",") == 2
    assert near("bert", []) == ""
