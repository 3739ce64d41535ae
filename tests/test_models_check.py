"""One forward pass shows whether a model and the data fit."""

import pytest
import torch
from torch import nn

from autocompress.errors import ModelError
from autocompress.models.check import check_model
from autocompress.task import Layout, Preprocess

IMAGE = Preprocess(layout=Layout.IMAGE, shape=(1, 4, 4))
TOKENS = Preprocess(layout=Layout.AS_STORED, shape=(6,), dtype="int64")


class Returns(nn.Module):
    def __init__(self, give):
        super().__init__()
        self.give = give

    def forward(self, x):
        return self.give(x)


def test_a_model_that_fits_passes_and_keeps_its_modes_and_values():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.BatchNorm1d(3))
    model.train()
    model[1].eval()
    before = model[2].running_mean.clone()
    check_model(model, IMAGE, 3)
    assert (model.training, model[1].training, model[2].training) == (True, False, True)
    assert torch.equal(model[2].running_mean, before)


def test_token_ids_are_tried_as_integers():
    check_model(nn.Sequential(nn.Embedding(9, 2), nn.Flatten(), nn.Linear(12, 3)), TOKENS, 3)


def test_other_tasks_may_have_other_output_shapes():
    model = Returns(lambda x: x.expand(-1, 3, -1, -1))
    check_model(model, IMAGE, 3, classification=False)
    with pytest.raises(ModelError, match=r"one score a class, \[2, 3\] for inputs \[2, 1, 4, 4\]; .* \[2, 3, 4, 4\]"):
        check_model(model, IMAGE, 3)


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (
            nn.Linear(5, 3),
            r"must run on the data's inputs; \[2, 1, 4, 4\] torch\.float32 gave RuntimeError: .*--input-size",
        ),
        (lambda x: x.flatten(1), r"one score a class, \[2, 3\] for .*; it returned \[2, 16\]; check its last layer"),
        (lambda x: (x, x), r"must return one float tensor; for inputs \[2, 1, 4, 4\] it returned tuple; wrap it"),
        (lambda x: x.flatten(1).argmax(1), r"one float tensor; .* it returned a tensor of torch\.int64"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(give, message):
    with pytest.raises(ModelError, match=message):
        check_model(Returns(give), IMAGE, 3)


def test_a_batch_that_was_lost_is_refused():
    with pytest.raises(ModelError, match=r"one output a sample, 2 for inputs \[2, 1, 4, 4\]; it returned \[\]"):
        check_model(Returns(torch.mean), IMAGE, 3, classification=False)
