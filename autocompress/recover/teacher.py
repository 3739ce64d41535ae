"""The original model's outputs along the sample stream, computed once."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autocompress.recipe import Arithmetic
from autocompress.recover.sample_stream import SampleStream

CHUNK = 128  # positions a forward pass; fixed, so that the same positions give the same bits


@dataclass(kw_only=True)
class Teacher:
    """What is known so far of one model's outputs along one stream."""

    outputs: Tensor | None = None


@torch.no_grad()
def teacher_outputs(
    teacher: nn.Module, stream: SampleStream, count: int, arithmetic: Arithmetic, known: Tensor | None = None
) -> Tensor:
    """Outputs ``[at least count, outputs]`` at positions 0 … of the stream, fp32, rounded up to whole chunks.

    ``known`` are outputs from an earlier call of the same teacher and stream; only what is missing is computed.
    """
    parts = [] if known is None else [known]
    done = 0 if known is None else len(known)
    teacher.eval()
    for start in range(done, count, CHUNK):
        inputs, _ = stream.batch(start, CHUNK)
        with torch.autocast("cpu", torch.bfloat16, enabled=arithmetic is Arithmetic.BF16):
            parts.append(teacher(inputs).float())
    return torch.cat(parts) if parts else torch.empty(0, stream.task.n_outputs)
