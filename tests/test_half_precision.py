"""Half precision where it once failed: a cached token, Grad-CAM, attention on JAX."""

import keras
import numpy as np
import pytest

import layers
from layers import models


@pytest.fixture(params=["mixed_bfloat16", "mixed_float16"])
def policy(request):
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_a_token_at_a_time_gives_the_logits_of_the_whole(policy, positions):
    model = models.gpt(11, 8, width=16, depth=2, num_heads=2, positions=positions)
    ids = np.arange(8, dtype="int32")[None] % 11
    decoder = layers.Decoder(model)
    found = np.stack([decoder(int(token)) for token in ids[0]])
    expected = np.asarray(model.predict_on_batch(ids))[0]
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_near_that_of_single_precision(policy, causal):
    x = np.random.default_rng(0).normal(size=(2, 6, 8)).astype("float32")
    half, single = (layers.SelfAttention(2, causal=causal, dtype=each) for each in (policy, "float32"))
    single.build(x.shape)
    half.build(x.shape)
    half.set_weights(single.get_weights())
    found = keras.ops.convert_to_numpy(keras.ops.cast(half(x), "float32"))
    expected = keras.ops.convert_to_numpy(single(x))
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())
