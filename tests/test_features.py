"""Distillation of features."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.strategies import floats, integers
from sklearn.linear_model import Ridge
from tiny_models import inputs_of, tiny
from tiny_runs import tiny_bench
from tiny_tasks import regression, task_for, vectors
from torch import Tensor, nn

from autocompress.errors import RecipeError
from autocompress.passes import PassContext, PruneChannels
from autocompress.recipe import Arithmetic, Distill, PassStep, Recipe, Recovery
from autocompress.recover.feature_places import place_pairs, rows_of, watched
from autocompress.recover.features import RIDGE, FeatureLoss, best_projection, feature_loss, unexplained_share
from autocompress.recover.sample_stream import SampleStream
from autocompress.recover.teacher import teacher_outputs
from autocompress.recover.train import recover, reestimate_batchnorm
from autocompress.task import Task
from autocompress.trial import make_model

# One for each layout of features: images, tokens, series, vectors; what is heavily pruned in each.
PRUNED = {
    "residual": {"features.2.conv1.0": 0.8, "features.3.conv1.0": 0.8, "features.3.conv2.0": 0.5},
    "vit": {"fc1": 0.9},
    "conv1d": {"features.0": 0.75, "features.3": 0.5},
    "mlp": {"0": 0.8, "3": 0.5},
}


def stream_for(name: str) -> SampleStream:
    return SampleStream(task_for(name), 0)


def original(name: str) -> nn.Module:
    """The tiny network with the statistics of its task in its norms, as a trained one has."""
    model = tiny(name)
    reestimate_batchnorm(model, stream_for(name))
    return model


def pruned(name: str, ratios: dict[str, float] | None = None) -> nn.Module:
    model = original(name)
    context = PassContext(example=inputs_of(name, 1), seed=0)
    settings = PruneChannels(ratios=ratios or PRUNED[name], align=1)
    assert len(settings.apply(model, context).changed) == len(settings.ratios)
    return model


def settings_of(features: float = 0, **changes: object) -> Recovery:
    distill = Distill(logits=1, features=features)
    return Recovery(**({"steps": 40, "batch": 32, "learning_rate": 1e-2, "distill": distill} | changes))


def weights_of(model: nn.Module) -> Tensor:
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def random_rows(seed: int, n: int = 40, channels: int = 3) -> Tensor:
    return torch.randn(n, channels, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(seed=integers(0, 1000), scale=floats(1e-3, 1e3))
def test_the_loss_is_the_share_of_variance_left_at_any_scale(seed, scale):
    student, teacher = random_rows(seed), scale * random_rows(seed + 1)
    student *= scale
    variance = teacher.var(0, correction=0).mean()
    residual = ((student - teacher).numpy() ** 2).sum()
    total = ((teacher - teacher.mean(0)).numpy() ** 2).sum()
    assert float(unexplained_share(student, teacher, variance)) == pytest.approx(residual / total)
    assert float(unexplained_share(teacher, teacher, variance)) == 0
    assert float(unexplained_share(teacher.mean(0).expand_as(teacher), teacher, variance)) == pytest.approx(1)


@given(seed=integers(0, 100), c_student=integers(1, 6), c_teacher=integers(1, 6))
def test_the_first_projection_is_ridge_regression(seed, c_student, c_teacher):
    x, y = random_rows(seed, 50, c_student), random_rows(seed + 1, 50, c_teacher) + 3
    projection = best_projection(x, y)
    alpha = RIDGE * float(x.var(0, correction=0).mean()) * len(x)
    expected = Ridge(alpha=alpha).fit(x.numpy(), y.numpy()).predict(x.numpy()).reshape(50, c_teacher)
    np.testing.assert_allclose(projection(x.float()).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_projection_of_channels_that_never_vary_gives_the_mean():
    y = random_rows(0)
    torch.testing.assert_close(best_projection(torch.zeros(40, 2), y)(torch.zeros(1, 2))[0].double(), y.mean(0))


@pytest.mark.parametrize("name", PRUNED)
def test_the_original_follows_itself_without_loss(name):
    teacher, stream = original(name), stream_for(name)
    student = copy.deepcopy(teacher)
    inputs, _ = stream.batch(0, 16)
    with feature_loss(student, teacher, stream, 16).watching(student) as features:
        student(inputs)
        assert features(inputs).item() == pytest.approx(0, abs=1e-9)
        assert not features.parameters
    assert not any(module._forward_hooks for module in student.modules())


@pytest.mark.parametrize(
    ("name", "layer"), [("residual", "features.3.conv2.0"), ("conv1d", "features.3"), ("mlp", "3")]
)
def test_a_projection_explains_more_than_the_mean_from_the_start(name, layer):
    student, stream = pruned(name, {layer: 0.5}).train(), stream_for(name)
    inputs, _ = stream.batch(0, 96)
    with feature_loss(student, original(name), stream, 32).watching(student) as features:
        student(inputs)
        assert 0.01 < features(inputs).item() < 0.6


@pytest.mark.parametrize("name", PRUNED)
def test_preparing_and_following_leave_the_teacher_the_student_and_the_random_state_alone(name):
    student, teacher, stream = pruned(name), original(name).train(), stream_for(name)
    before, state = (weights_of(student), weights_of(teacher)), torch.get_rng_state()
    features = feature_loss(student, teacher, stream, 16)
    assert torch.equal(weights_of(student), before[0])
    assert not student.training
    assert torch.equal(torch.get_rng_state(), state)
    student.train()
    inputs, _ = stream.batch(0, 16)
    with features.watching(student):
        student(inputs)
        features(inputs).backward()
    assert torch.equal(weights_of(teacher), before[1])
    assert teacher.training
    assert all(p.requires_grad and p.grad is None for p in teacher.parameters())
    assert not any(module._forward_hooks for model in (student, teacher) for module in model.modules())


def test_only_what_leads_to_a_place_and_the_projections_have_a_gradient():
    student, stream = pruned("residual"), stream_for("residual")
    inputs, _ = stream.batch(0, 16)
    features = feature_loss(student, original("residual"), stream, 16)
    with features.watching(student):
        student(inputs)
        features(inputs).backward()
    assert [name for name, p in student.named_parameters() if p.grad is None] == ["head.weight", "head.bias"]
    assert [float(p.grad.norm()) > 0 for p in features.parameters] == [True, True]


@torch.no_grad()
def unexplained(student: nn.Module, teacher: nn.Module, stream: SampleStream) -> float:
    """The share of the teacher's variance that the best linear map from the student's features leaves."""
    inputs, _ = stream.batch(0, 96)
    shares = []
    for pair in place_pairs(student, teacher, inputs):
        with watched(student, [pair.student.name]) as ours, watched(teacher, [pair.teacher.name]) as theirs:
            student(inputs)
            teacher(inputs)
        mine = rows_of(ours[pair.student.name][-1], pair.student.axis)
        wanted = rows_of(theirs[pair.teacher.name][-1], pair.teacher.axis)
        fitted = best_projection(mine, wanted)(mine)
        shares.append(float(unexplained_share(fitted, wanted, wanted.var(0, correction=0).mean())))
    return float(np.mean(shares))


def left_after(name: str, task: Task, distill: Distill, **changes: object) -> float:
    """``unexplained`` of a pruned copy after its recovery."""
    student, teacher, stream = pruned(name), original(name), SampleStream(task, 0)
    outputs = teacher_outputs(teacher, stream, 40 * 32, Arithmetic.FP32)
    settings = settings_of(distill=distill, **changes)
    torch.manual_seed(0)
    recover(student, stream, settings, teacher=outputs, teacher_model=teacher)
    return unexplained(student, teacher, stream)


@pytest.mark.parametrize("name", PRUNED)
def test_features_end_closer_to_the_teachers_than_without(name):
    task = task_for(name)
    without = left_after(name, task, Distill(logits=1))
    assert left_after(name, task, Distill(logits=1, features=10)) < 0.9 * without


@pytest.mark.parametrize("name", PRUNED)
def test_the_loss_falls(name):
    student, teacher, stream = pruned(name), original(name), stream_for(name)
    inputs, _ = stream.batch(0, 96)
    losses = []
    for _ in range(2):
        with torch.no_grad(), feature_loss(student, teacher, stream, 32).watching(student) as features:
            student.train()(inputs)
            losses.append(float(features(inputs)))
        recover(student, stream, settings_of(10.0), teacher=None, teacher_model=teacher)
    assert losses[1] < 0.9 * losses[0]


def test_projections_are_trained_along(monkeypatch):
    made = []

    def kept(*given: object) -> FeatureLoss:
        made.append(feature_loss(*given))
        made.append([parameter.detach().clone() for parameter in made[0].parameters])
        return made[0]

    monkeypatch.setattr("autocompress.recover.train.feature_loss", kept)
    settings = settings_of(1.0, steps=2)
    recover(pruned("mlp"), stream_for("mlp"), settings, teacher=None, teacher_model=original("mlp"))
    features, before = made
    assert len(before) == 4
    assert not any(torch.equal(now, then) for now, then in zip(features.parameters, before, strict=True))


def test_a_student_of_another_architecture_follows_by_projections():
    """A ViT under a CNN: an image of 4×4 and sixteen tokens."""
    torch.manual_seed(0)
    teacher = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 10, 3, 2, 1), nn.Flatten(), nn.Linear(160, 4)
    )
    stream, student = stream_for("vit"), original("vit")
    inputs, _ = stream.batch(0, 64)
    losses = []
    for steps in (0, 40):
        if steps:
            recover(student, stream, settings_of(1.0), teacher=None, teacher_model=teacher)
        with feature_loss(student, teacher, stream, 32).watching(student) as features, torch.no_grad():
            student(inputs)
            losses.append(float(features(inputs)))
    assert losses[1] < 0.7 * losses[0]


def never(*_: object) -> Tensor:
    raise AssertionError("labels were looked at")


@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_labels_are_not_looked_at(arithmetic):
    task = replace(vectors(), loss=never)
    without = left_after("mlp", task, Distill(logits=1), arithmetic=arithmetic)
    assert left_after("mlp", task, Distill(logits=1, features=10), arithmetic=arithmetic) < 0.9 * without


def by_size(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return (student - teacher).abs().mean() * temperature


@pytest.mark.parametrize("task", [regression(), replace(vectors(), distillation=by_size)], ids=["loss", "distillation"])
def test_features_go_with_losses_of_ones_own(task):
    without = left_after("mlp", task, Distill(logits=0.5))
    assert left_after("mlp", task, Distill(logits=0.5, features=10)) < 0.9 * without


@pytest.mark.parametrize("name", PRUNED)
def test_the_same_seed_gives_the_same_weights_and_features_change_them(name):
    states = []
    for weight in (1.0, 1.0, 0.0):
        student = pruned(name)
        torch.manual_seed(0)
        settings = settings_of(weight, steps=3, distill=Distill(logits=0, features=weight))
        recover(student, stream_for(name), settings, teacher=None, teacher_model=original(name))
        states.append(weights_of(student))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize("name", PRUNED)
def test_without_features_the_original_never_runs_and_the_weights_are_the_same(name):
    teacher = original(name)
    teacher.register_forward_pre_hook(lambda *_: pytest.fail("the original ran"))
    states = []
    for model in (None, teacher):
        student = pruned(name)
        torch.manual_seed(0)
        recover(student, stream_for(name), settings_of(0, steps=3), teacher=None, teacher_model=model)
        states.append(weights_of(student))
    assert torch.equal(states[0], states[1])


def test_features_need_the_original_itself():
    message = (
        r"^recovery.distill.features needs the original model, got 0.5 without teacher_model; hand it in or set "
        r"features: 0$"
    )
    with pytest.raises(RecipeError, match=message):
        recover(original("mlp"), SampleStream(vectors(), 0), settings_of(0.5), teacher=None)


def silent() -> nn.Module:
    """A network whose only hidden layer gives zeros."""
    model = nn.Sequential(nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 4))
    nn.init.zeros_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    return model


@pytest.mark.parametrize("teacher", [nn.Sequential(nn.Linear(12, 4)), silent()], ids=["no hidden layer", "constant"])
def test_features_need_a_common_place(teacher):
    message = (
        r"^recovery.distill.features needs a stage whose output has the same positions in the original and in the "
        r"compressed model, and varies; got none; set features: 0$"
    )
    with pytest.raises(RecipeError, match=message):
        recover(original("mlp"), SampleStream(vectors(), 0), settings_of(1.0), teacher=None, teacher_model=teacher)


def test_a_recipe_can_ask_for_features():
    """``make_model`` hands in the base, and leaves it alone."""
    bench = tiny_bench()
    before = weights_of(bench.base)
    settings = Recovery(steps=2, batch=8, distill=Distill(logits=1, features=1.0))
    step = PassStep(name="prune_channels", settings={"ratios": {"stem": 0.5}})
    left = []
    for distill in (settings.distill, Distill(logits=1)):
        recipe = Recipe(passes=(step,), recovery=settings.model_copy(update={"distill": distill}))
        left.append(weights_of(make_model(bench, recipe, threads=1).model))
    assert not torch.equal(left[0], left[1])
    assert torch.equal(weights_of(bench.base), before)
