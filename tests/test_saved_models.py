"""A saved model that owns its objective comes back with its arguments and its precision."""

import keras
import numpy as np
import pytest

from layers import models


@pytest.mark.parametrize(
    "build",
    [
        lambda **kwargs: models.VAE((9, 10, 1), 5, num_classes=3, width=4, depth=2, kl_weight=0.5, **kwargs),
        lambda **kwargs: models.DCGAN((9, 10, 1), 5, num_classes=3, width=4, **kwargs),
        lambda **kwargs: models.PixelGaussian((9, 10, 1), **kwargs),
    ],
)
def test_a_model_saved_in_half_precision_comes_back_in_it(build, tmp_path):
    model = build(name="mine", dtype="mixed_bfloat16", trainable=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.name == "mine" and loaded.get_config() == model.get_config()
    assert not loaded.trainable_variables
    policies = [[layer.dtype_policy.name for layer in each._flatten_layers()] for each in (model, loaded)]
    assert policies[0] == policies[1] and set(policies[0]) <= {"mixed_bfloat16", "float32"}
    assert policies[0].count("mixed_bfloat16") > len(policies[0]) // 2
    assert keras.config.dtype_policy().name == "float32"
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 10, 1)).astype("uint8")
    for ours, theirs in zip(keras.tree.flatten(loaded(images)), keras.tree.flatten(model(images)), strict=True):
        np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(keras.ops.cast(each, "float32")) for each in (ours, theirs)))
