"""Each baseline finds what made up data was made with."""

import numpy as np
import pytest

from autocompress.errors import MeasurementError
from autocompress.hardware.kernels.kernel import Kernel, Tensor
from autocompress.hardware.predictor.baselines import fit_baselines, fit_flops, fit_roofline, table_of
from autocompress.hardware.predictor.observation import Observation


def product(rows, inner, columns, dtype="float"):
    a, b = Tensor(dtype, (rows, inner)), Tensor(dtype, (inner, columns), stored=True)
    return Kernel("MatMul", (a, b), (Tensor(dtype, (rows, columns)),))


def relu(n):
    return Kernel("Relu", (Tensor("float", (n,)),), (Tensor("float", (n,)),))


def test_the_line_through_macs_is_found_again():
    files = [[product(n, 8, 8), relu(n)] for n in (10, 30, 100, 500)]
    times = np.array([3.0 * (64 * n) ** 0.8 for n in (10, 30, 100, 500)])

    fitted = fit_flops(files, times)

    assert fitted.slope == pytest.approx(0.8)
    assert fitted.predict_us([product(50, 8, 8)]) == pytest.approx(3.0 * (64 * 50) ** 0.8)


def test_the_rates_of_a_roofline_are_found_again():
    rng = np.random.default_rng(0)
    files = [
        [product(*rng.integers(16, 400, 3), dtype=str(rng.choice(["float", "int8"]))), relu(rng.integers(100, 1e5))]
        for _ in range(60)
    ]
    files += [[product(1, 900, 900, "int8")] * 3]

    def us(kernel):
        is_float = kernel.inputs[0].dtype == "float"
        macs = np.prod(kernel.inputs[0].shape) * kernel.outputs[0].shape[1] if kernel.op == "MatMul" else 0
        moved = sum(tensor.bytes for tensor in (*kernel.inputs, *kernel.outputs))
        return max(macs / (3e4 if is_float else 8e4), moved / (1e4 if is_float else 7e3)) + 1.5

    times = np.array([sum(map(us, kernels)) for kernels in files])

    fitted = fit_roofline(files, times)

    assert fitted.rates == pytest.approx((3e4, 1e4, 8e4, 7e3, 1.5), rel=0.01)
    assert fitted.predict_us(files[0]) == pytest.approx(times[0], rel=0.01)


def test_a_table_adds_up_mean_times_and_takes_the_nearest_kernel_of_the_operator():
    table = table_of([(product(8, 8, 8), 4.0), (product(8, 8, 8), 6.0), (product(80, 80, 80), 90.0), (relu(512), 1.0)])

    assert table.predict_us([product(8, 8, 8), relu(512)]) == 6.0
    assert table.predict_us([product(70, 80, 80)]) == 90.0
    assert table.predict_us([product(9, 8, 8)]) == 5.0


def test_an_operator_that_the_table_has_not_takes_the_nearest_kernel_of_any():
    table = table_of([(product(80, 80, 80), 90.0), (relu(512), 1.0)])
    tanh = Kernel("Tanh", relu(400).inputs, relu(400).outputs)

    assert table.predict_us([tanh]) == 1.0


def observed(n):
    kernels = [(*product(n, 8, 8).to_data(), 30.0), (*relu(n).to_data(), 10.0)]
    about = {"name": f"{n}", "family": "made up", "precision": "fp32", "measured_at": "2000-01-01T00:00:00+00:00"}
    return Observation(**about, rounds_us=(20.0,), kernels=tuple(kernels))


def test_table_entries_are_profiled_shares_of_the_time_without_a_profile():
    fitted = fit_baselines([observed(n) for n in (10, 20, 30, 40, 50)])

    assert set(fitted) == {"flops", "roofline", "table"}
    assert fitted["table"].predict_us([product(10, 8, 8)]) == pytest.approx(15.0)


def test_too_few_files_are_refused():
    with pytest.raises(MeasurementError, match="baselines need at least 5 measured files, got 2; measure more"):
        fit_baselines([observed(10), observed(20)])
