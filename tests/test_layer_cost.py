"""What a layer is estimated to cost."""

import pytest
import torch
from torch import nn

from autocompress.graph.layer_cost import NANOSECONDS, Term, cost_terms, estimated_time
from autocompress.graph.layer_table import LayerFacts, layer_table


def facts(layer: nn.Module, *shape: int) -> LayerFacts:
    (found,) = layer_table(nn.Sequential(layer), torch.zeros(1, *shape))
    return found


def time_of(layer: nn.Module, *shape: int, block: int = 16) -> float:
    return estimated_time([facts(layer, *shape)], block)


def test_where_channels_fill_blocks_the_steps_are_the_macs():
    found = facts(nn.Conv2d(32, 64, 3, padding=1), 32, 10, 10)
    for block in (4, 8, 16):
        assert cost_terms(found, block)[Term.BLOCKED] * block == found.macs


@pytest.mark.parametrize("c_out", [17, 24, 31])
def test_a_part_of_a_block_costs_a_whole_one(c_out):
    assert (
        cost_terms(facts(nn.Conv2d(32, c_out, 3), 32, 8, 8), 16)[Term.BLOCKED]
        == (cost_terms(facts(nn.Conv2d(32, 32, 3), 32, 8, 8), 16)[Term.BLOCKED])
    )


@pytest.mark.parametrize(
    ("layer", "shape", "term", "steps"),
    [
        (nn.Conv2d(3, 16, 3), (3, 6, 6), Term.PLAIN_INPUT, 16 * 3 * 9),
        (nn.Conv2d(32, 32, 3, groups=32), (32, 6, 6), Term.DEPTHWISE, 16 * 2 * 9),
        (nn.Conv2d(30, 30, 3, groups=30), (30, 6, 6), Term.MATRIX, 16 * 30 * 9),
        (nn.Conv2d(18, 16, 3), (18, 6, 6), Term.MATRIX, 16 * 18 * 9),
        (nn.Conv2d(64, 64, 3, groups=2), (64, 6, 6), Term.BLOCKED, 16 * 4 * 32 * 9),
        (nn.Conv2d(16, 16, 3, groups=4), (16, 6, 6), Term.MATRIX, 16 * 4 * 4 * 9),
        (nn.Conv1d(16, 32, 3), (16, 6), Term.MATRIX, 4 * 2 * 16 * 3),
        (nn.Linear(20, 17), (5, 20), Term.MATRIX, 5 * 2 * 20),
    ],
    ids=str,
)
def test_arithmetic_is_counted_by_the_path_that_the_runtime_takes(layer, shape, term, steps):
    terms = cost_terms(facts(layer, *shape), 16)
    assert terms[term] == steps
    paths = {Term.BLOCKED, Term.PLAIN_INPUT, Term.DEPTHWISE, Term.MATRIX}
    assert paths & terms.keys() == {term}
    assert terms[Term.WEIGHTS] == layer.weight.numel()


def test_a_linear_layer_unfolds_nothing():
    assert cost_terms(facts(nn.Linear(20, 17), 5, 20), 16)[Term.UNFOLDED] == 0


def test_layers_in_a_row_add_up_and_each_starts_a_kernel():
    one = facts(nn.Conv2d(16, 16, 1), 16, 1, 1)
    assert estimated_time([one, one], 16) == pytest.approx(2 * estimated_time([one], 16))
    assert estimated_time([one], 16) > NANOSECONDS[Term.KERNELS]


def test_a_narrow_pair_is_faster_on_many_positions_and_slower_on_one():
    """The whole reason for the estimate: fewer multiplications are not less time everywhere."""

    def ratio(size: int) -> float:
        pair = (facts(nn.Conv2d(32, 16, 3, padding=1), 32, size, size), facts(nn.Conv2d(16, 32, 1), 16, size, size))
        return estimated_time(pair, 16) / time_of(nn.Conv2d(32, 32, 3, padding=1), 32, size, size)

    assert ratio(28) < 0.7
    assert ratio(1) > 1
