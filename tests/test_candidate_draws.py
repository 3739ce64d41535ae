"""Architectures are drawn, counted without memory, scored without training and spread over a cost."""

import numpy as np
import pytest
import torch
from made_up_candidates import SHAPE, pool
from torch import nn

from autocompress.export.draft_export import draft_onnx
from autocompress.search.candidates.draw import set_right
from autocompress.search.candidates.facts import closeness
from autocompress.search.candidates.scores import naswot, synflow
from autocompress.search.candidates.spread import evidence, spread, steps_of
from autocompress.students.build import build
from autocompress.task import Layout, Preprocess
from autocompress.trial import facts_of


def test_counts_without_memory_are_those_of_the_network():
    found = pool()
    found.draw(3, lambda: False)
    for member in found.members.values():
        model = build(member.architecture, shape=SHAPE, n_outputs=4, seed=0)
        assert member.params == sum(p.numel() for p in model.parameters())
        proto = draft_onnx(model, Preprocess(layout=Layout.IMAGE, shape=SHAPE), 1)
        assert member.macs == facts_of(proto.SerializeToString()).macs


def test_a_seed_draws_the_same_and_no_architecture_twice():
    first, second = pool(1), pool(1)
    for each in (first, second):
        each.draw(5, lambda: False)
        each.breed(list(each.members.values())[:2], 3, lambda: False)
    assert list(first.members) == list(second.members)
    assert len({member.architecture.digest() for member in first.members.values()}) == len(first.members) > 5


def test_a_child_differs_from_its_parent_in_at_most_two_parameters():
    found = pool()
    (parent,) = found.members.values()
    found.breed([parent], 5, lambda: False)
    for member in list(found.members.values())[1:]:
        values = member.architecture.values
        assert 1 <= sum(values[name] != value for name, value in parent.architecture.values.items()) <= 2


def test_drawing_ends_when_the_time_is_over():
    found = pool()
    found.draw(5, lambda: True)
    assert len(found.members) == 1


def test_rough_times_are_set_right_by_the_median_of_their_family():
    found = pool()
    found.draw(4, lambda: False)
    members = list(found.members.values())
    times = set_right((member, factor * member.rough_ms) for member, factor in zip(members, (2, 2, 2, 9), strict=False))
    assert times.ms(members[0]) == pytest.approx(2 * members[0].rough_ms)
    assert set_right(()).ms(members[0]) == members[0].rough_ms


class Patterns(nn.Module):
    """Units that are active for inputs above their threshold: with more of them, more inputs are told apart."""

    def __init__(self, thresholds) -> None:
        super().__init__()
        self.thresholds = torch.tensor(thresholds)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(x - self.thresholds)


def test_naswot_is_the_log_determinant_of_agreeing_units():
    inputs = torch.tensor([[0.0], [1.0], [2.0]])
    found = naswot(Patterns([0.5, 1.5]), inputs)
    agreeing = np.array([[2, 1, 0], [1, 2, 1], [0, 1, 2]])  # units that are both active or both not
    assert found == pytest.approx(np.log(np.linalg.det(agreeing)))


def test_inputs_that_are_not_told_apart_score_nothing():
    assert naswot(Patterns([5.0]), torch.tensor([[0.0], [1.0]])) is None


def test_synflow_of_linear_layers_is_the_sum_over_paths_once_a_layer():
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.BatchNorm1d(3), nn.Linear(3, 1, bias=False))
    first, second = (model[place].weight.detach().abs().double() for place in (0, 2))
    paths = float((second @ first).sum())
    assert synflow(model, (2,)) == pytest.approx(np.log10(2 * paths))


def test_scores_leave_the_network_alone():
    model = build(next(iter(pool().members.values())).architecture, shape=SHAPE, n_outputs=4, seed=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    naswot(model, torch.randn(4, *SHAPE))
    synflow(model, SHAPE)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_evidence_is_the_mean_share_of_others_below():
    assert evidence([(1, 5), (2, 5), (3, 5)]).tolist() == [0.25, 0.5, 0.75]
    assert evidence([(1, 2)]).tolist() == [1.0]


def test_the_worthiest_of_each_step_of_cost_is_taken_first():
    costs = [1.0, 1.1, 2.0, 3.9, 4.0, 5.0]
    worth = [0.1, 0.2, 0.3, 0.9, 0.8, 1.0]
    assert set(spread(costs, worth, limit=4.0, count=2)) == {1, 3}
    assert set(spread(costs, worth, limit=4.0, count=4)) >= {1, 3, 2}
    assert len(spread(costs, worth, limit=4.0, count=9)) == 5  # what breaks the limit is never taken
    assert spread(costs, worth, limit=0.5, count=2) == []


def test_steps_of_cost_span_at_most_a_factor_of_four():
    assert steps_of([0.01, 1.0, 4.0, 5.0], limit=4.0, count=3).tolist() == [-1, 0, 2, -1]


def test_closeness_counts_those_within_a_tenth():
    found = closeness([(1.05, 1.0), (1.2, 1.0), (0.9, 1.0)])
    assert (found.files, found.within_a_tenth) == (3, 2)
    assert closeness([]) is None
