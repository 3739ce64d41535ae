"""Your own network, data, loss and metric: here a regression on series, judged by R².

The two factories are all that the command line needs:

    autocompress compress examples/own_module_and_task.py:network --data examples/own_module_and_task.py:task
    --budget "size<=50%" --time 1m --out runs/own

(in one line), or run this file, which does the same from Python.
"""

import argparse

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

import autocompress as ac

CHANNELS, LENGTH = 3, 64


class SeriesNet(nn.Module):
    """A small 1-d convolutional network with one output."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(CHANNELS, 32, 5, padding=2),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Conv1d(32, 64, 5, stride=2, padding=2),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Conv1d(64, 64, 5, stride=2, padding=2),
            nn.BatchNorm1d(64),
            nn.ReLU(),
        )
        self.head = nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(dim=2))


def network() -> nn.Module:
    return SeriesNet()


def task() -> ac.Task:
    """Noisy waves; the target is the frequency of the first channel."""
    rng = np.random.default_rng(0)

    def split(n: int) -> ac.Split:
        frequency = rng.uniform(1, 8, size=(n, 1)).astype(np.float32)
        time = np.linspace(0, 1, LENGTH, dtype=np.float32)
        phase = rng.uniform(0, 6.28, size=(n, CHANNELS, 1)).astype(np.float32)
        pitch = frequency[:, :, None] * np.array([1, 0, 2], np.float32)[:, None]
        waves = np.sin(6.28 * pitch * time + phase)
        noise = rng.normal(0, 0.1, size=waves.shape)
        return ac.Split(inputs=(waves + noise).astype(np.float32), targets=frequency / 8)

    return ac.Task(
        name="frequency of a wave",
        train=split(2000),
        val=split(400),
        test=split(400),
        preprocess=ac.Preprocess(layout=ac.Layout.AS_STORED, shape=(CHANNELS, LENGTH)),
        n_outputs=1,
        loss=F.mse_loss,
        metric=r_squared,
        metric_name="R²",
    )


def r_squared(outputs: np.ndarray, targets: np.ndarray) -> float:
    """1 for a perfect fit, 0 for the mean."""
    return float(1 - ((outputs - targets) ** 2).sum() / ((targets - targets.mean()) ** 2).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="runs/own")
    parser.add_argument("--time", default="1m")
    arguments = parser.parse_args()

    # Named by file, the network is trained first; a module that is handed over counts as trained.
    result = ac.compress(
        f"{__file__}:network",
        f"{__file__}:task",
        "size<=50%",
        out=arguments.out,
        time=arguments.time,
        overwrite=True,
    )
    print(result.verdict)
    assert result.best is not None
    print(f"R² on the test split: {result.baseline.accuracy_test:.3f} → {result.best.accuracy_test:.3f}")


if __name__ == "__main__":
    main()
