import hashlib
import json

import numpy as np
import pytest
from sample_certificate import IMAGES, certificate_of

from autocompress.clock import now
from autocompress.data.preprocess import model_input
from autocompress.delivery.certificate import Certificate, identity_of, input_facts
from autocompress.task import Layout, Preprocess

SERIES = Preprocess(layout=Layout.AS_STORED, shape=(24,), dtype="int64")


def test_a_certificate_survives_its_own_json():
    certificate = certificate_of()
    assert Certificate.from_json(certificate.to_json()) == certificate


def test_a_certificate_is_plain_json_with_every_number_in_units_of_its_name():
    """A stranger reads it without this package."""
    content = json.loads(certificate_of().to_json())
    assert content["met"] is True
    assert [(row["metric"], row["limit"], row["value"], row["met"]) for row in content["budget"]] == [
        ("latency", 5.0, 2.0, True),
        ("size", 50000.0, 500.0, True),
        ("accuracy", 0.9, 0.95, True),
    ]
    assert content["latency"]["median_ms"] == 2.0
    assert content["file"]["sha256"] == hashlib.sha256(b"content").hexdigest()


def test_a_typo_in_a_certificate_is_found():
    text = certificate_of().to_json().replace('"metric_name"', '"metrik_name"')
    with pytest.raises(ValueError, match="metrik_name"):
        Certificate.from_json(text)


def test_the_identity_of_a_file_is_name_hash_and_length():
    identity = identity_of("model.onnx", b"12345")
    assert (identity.name, identity.size_bytes) == ("model.onnx", 5)
    assert identity.sha256 == hashlib.sha256(b"12345").hexdigest()


def test_following_the_input_facts_gives_the_models_input():
    """The steps that the certificate states, done with numpy alone, are what the package does."""
    facts = input_facts(IMAGES, "input", 1)
    pixels = np.random.default_rng(0).integers(0, 256, (4, *facts.size, 3), dtype=np.uint8)
    x = pixels.astype(np.float32) / facts.divide_by
    x = (x - np.array(facts.mean)) / np.array(facts.std)
    np.testing.assert_allclose(model_input(IMAGES, pixels), x.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6)


def test_input_facts_say_the_same_in_words_and_in_order():
    facts = input_facts(IMAGES, "input", 4)
    assert facts.shape == (4, 3, 8, 6)
    assert facts.layout == "NCHW"
    assert facts.recipe == (
        "take uint8 pixels [height, width, channels], resized: bilinear (Pillow), in float32: divide by 255, "
        "subtract mean per channel, divide by std per channel, move channels first"
    )


def test_images_without_normalization_and_resize_are_only_scaled():
    facts = input_facts(Preprocess(layout=Layout.IMAGE, shape=(1, 8, 8)), "input", 1)
    assert (facts.mean, facts.std, facts.resize) == (None, None, "none")
    assert facts.recipe == "take uint8 pixels [height, width, channels], in float32: divide by 255, move channels first"


def test_other_data_is_fed_as_it_is_stored():
    facts = input_facts(SERIES, "input", 2)
    assert (facts.layout, facts.size, facts.divide_by) == ("as stored", None, None)
    assert facts.recipe == "feed the stored array as int64"
    assert facts.shape == (2, 24)


@pytest.mark.parametrize("preprocess", [IMAGES, SERIES])
def test_input_facts_give_the_preprocessing_back(preprocess):
    assert input_facts(preprocess, "input", 1).preprocess() == preprocess


def test_the_time_is_utc_to_the_second():
    assert now().endswith("+00:00")
    assert len(now()) == len("2000-01-01T00:00:00+00:00")
