"""What every test stands on: one thread, one seed."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    """One thread and one seed, whatever the test before has set."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
