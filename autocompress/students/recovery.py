"""How a student learns: from nothing, under its teacher."""

from torch import nn

from autocompress.recipe import Recovery

# Times the rate of a recovery, whose weights are nearly where they should be. The baseline's own training from nothing
# has it too, and the decay; that of Liu et al. 2022, tab. 5, https://arxiv.org/abs/2201.03545, and of Touvron et al.
# 2021, tab. 9, https://arxiv.org/abs/2012.12877, for networks with and without convolutions.
FASTER = 2.0
WEIGHT_DECAY = 0.05
NORMALIZED_RATE, PLAIN_RATE = 1e-3, 3e-4  # with and without BatchNorm, of a recovery


def student_recovery(recovery: Recovery, student: nn.Module) -> Recovery:
    """A copy of ``recovery`` with learning rate and weight decay for random weights, and without features to follow.

    Steps and the teacher's share of the loss are kept. Layers of another network have no counterpart by name.
    """
    has_batchnorm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in student.modules())  # noqa: SLF001
    return recovery.model_copy(
        update={
            "learning_rate": FASTER * (NORMALIZED_RATE if has_batchnorm else PLAIN_RATE),
            "weight_decay": WEIGHT_DECAY,
            "distill": recovery.distill.model_copy(update={"features": 0.0}),
        }
    )
