"""Weights keep to their zeros and clusters through training."""

import pytest
import torch
from torch import nn

from autocompress.layers.constraint import Constraint, held, held_in

SHAPES = [(6, 5), (4, 3, 3, 3), (6, 4, 5)]


def constraint_of(shape, *, masked: bool, clustered: bool, groups: int = 1) -> Constraint:
    rng = torch.Generator().manual_seed(0)
    return Constraint(
        kept=torch.rand(shape, generator=rng) > 0.4 if masked else None,
        indices=torch.randint(0, 4, shape, generator=rng, dtype=torch.uint8) if clustered else None,
        bits=2,
        groups=groups,
    )


def start(constraint: Constraint, shape) -> torch.Tensor:
    """A weight on the constraint."""
    clusters = constraint.clusters()
    weight = torch.randn(shape) if clusters is None else torch.randn(64)[clusters]
    return weight if constraint.kept is None else weight * constraint.kept


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("masked", "clustered"), [(True, False), (False, True), (True, True)])
def test_a_held_weight_never_leaves_its_constraint_and_still_learns(shape, groups, masked, clustered):
    constraint = constraint_of(shape, masked=masked, clustered=clustered, groups=groups)
    weight = nn.Parameter(start(constraint, shape))
    before = weight.detach().clone()
    target = torch.randn(shape)
    optimizer = torch.optim.AdamW([weight], lr=0.05, weight_decay=0.01)
    with held([(weight, constraint)]):
        for _ in range(20):
            optimizer.zero_grad()
            (weight - target).square().sum().backward()
            optimizer.step()
    assert ((weight - target) ** 2).sum() < ((before - target) ** 2).sum()
    if masked:
        assert not weight[~constraint.kept].any()
    if clustered:
        numbers = constraint.clusters()
        places = torch.ones(shape, dtype=torch.bool) if not masked else constraint.kept
        for number in numbers[places].unique():
            assert weight[places & (numbers == number)].unique().numel() == 1


@pytest.mark.parametrize("masked", [False, True])
def test_the_norm_is_that_of_the_gradient_of_the_shared_numbers(masked):
    shape = (8, 9)
    constraint = constraint_of(shape, masked=masked, clustered=True)
    kept = constraint.kept if masked else torch.ones(shape, dtype=torch.bool)
    table = torch.randn(4, requires_grad=True)
    target = torch.randn(shape)
    ((table[constraint.clusters()] * kept - target) ** 2).sum().backward()
    weight = (table.detach()[constraint.clusters()] * kept).requires_grad_()
    ((weight - target) ** 2).sum().backward()
    projected = constraint.project(weight.grad)
    torch.testing.assert_close(projected.norm(), table.grad.norm())
    signs = {
        int(number): projected[kept & (constraint.clusters() == number)].unique().sign().item() for number in range(4)
    }
    assert signs == {number: table.grad[number].sign().item() for number in range(4)}


def test_weights_outside_do_not_count():
    constraint = Constraint(
        indices=torch.zeros(1, 3, dtype=torch.uint8), kept=torch.tensor([[True, True, False]]), bits=1
    )
    projected = constraint.project(torch.tensor([[1.0, 3.0, 100.0]]))
    torch.testing.assert_close(projected, torch.tensor([[4.0, 4.0, 0.0]]) / 2**0.5)


def test_groups_have_clusters_of_their_own():
    constraint = Constraint(indices=torch.zeros(4, 1, dtype=torch.uint8), bits=3, groups=2)
    assert constraint.clusters().flatten().tolist() == [0, 0, 8, 8]


def test_a_shared_weight_is_held_once_and_free_afterwards():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    constraint = Constraint(kept=torch.eye(4, dtype=torch.bool))
    with torch.no_grad():
        model[0].weight.mul_(constraint.kept)
    calls = []
    original = Constraint.project
    try:
        Constraint.project = lambda self, gradient: (calls.append(1), original(self, gradient))[1]
        with held(held_in(model, {"0": constraint, "1": constraint})):
            model(torch.randn(3, 4)).sum().backward()
        assert len(calls) == 1
        model(torch.randn(3, 4)).sum().backward()
        assert len(calls) == 1
    finally:
        Constraint.project = original


def test_a_constraint_fits_weights_of_its_shape_and_zeros():
    constraint = Constraint(kept=torch.tensor([[True, False]]))
    assert constraint.fits(torch.tensor([[1.0, 0.0]]))
    assert not constraint.fits(torch.tensor([[1.0, 2.0]]))
    assert not constraint.fits(torch.tensor([[1.0, 0.0, 0.0]]))
