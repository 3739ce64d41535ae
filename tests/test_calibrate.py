"""What the tensors of a file look like on real inputs."""

import numpy as np
import pytest
from tiny_exports import calibration_of, exported, seen
from tiny_models import tiny

from autocompress.export.calibrate import Seen, observe, tensor_ranges
from autocompress.export.onnx_file import INPUT_NAME, OUTPUT_NAME
from autocompress.precision import Calibration


def test_min_max_is_what_the_network_gives_with_zero_in_the_range():
    x = calibration_of("plain")
    outputs = tiny("plain")(x).detach().numpy()
    found = tensor_ranges(exported("plain"), [INPUT_NAME, OUTPUT_NAME], seen("plain"), Calibration.MIN_MAX)
    assert found[INPUT_NAME] == pytest.approx((float(x.min()), float(x.max())))
    assert found[OUTPUT_NAME] == pytest.approx((min(0, outputs.min()), max(0, outputs.max())), rel=1e-4)


def test_inner_tensors_are_seen_though_the_runtime_would_fuse_them():
    """A convolution and its ReLU are one kernel otherwise."""
    proto = exported("plain")
    conv = next(node for node in proto.graph.node if node.op_type == "Conv")
    relu = next(node for node in proto.graph.node if node.op_type == "Relu")
    x = calibration_of("plain")
    expected = tiny("plain")[0](x).detach().numpy()
    values = list(observe(proto, [conv.output[0], relu.output[0]], seen("plain")))
    assert len(values) == len(x)
    before = np.concatenate([each[conv.output[0]] for each in values])
    np.testing.assert_allclose(before, expected, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate([each[relu.output[0]] for each in values]), np.maximum(before, 0))
    assert before.min() < 0


@pytest.mark.parametrize("method", list(Calibration))
def test_every_method_gives_a_range_within_the_whole_one_with_zero_in_it(method):
    outlier = calibration_of("mlp").numpy().copy()
    outlier[0, 0] = 40
    proto = exported("mlp")
    samples = Seen(inputs=np.concatenate([outlier] * 4), batch=1)
    names = [INPUT_NAME, *(node.output[0] for node in proto.graph.node)]
    whole = tensor_ranges(proto, names, samples, Calibration.MIN_MAX)
    found = tensor_ranges(proto, names, samples, method)
    assert found.keys() == whole.keys()
    for name, (low, high) in found.items():
        assert whole[name][0] - 1e-6 <= low <= 0 <= high <= whole[name][1] + 1e-6
    if method is Calibration.ENTROPY:
        assert found[INPUT_NAME][1] < 40  # one value in 1536 is cut off


def test_batches_give_the_same_ranges_and_the_rest_is_left_out():
    inputs = calibration_of("residual").numpy()
    name = OUTPUT_NAME
    single = tensor_ranges(exported("residual"), [name], Seen(inputs=inputs[:4], batch=1), Calibration.MIN_MAX)
    batched = tensor_ranges(exported("residual", 4), [name], Seen(inputs=inputs[:6], batch=4), Calibration.MIN_MAX)
    assert batched[name] == pytest.approx(single[name], rel=1e-5)
