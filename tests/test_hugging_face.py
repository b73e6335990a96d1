"""Folders of Hugging Face: what our builders compute of them, what is taken along, what is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from hugging_face_samples import TEXTS

from apps.common.bundles.hugging_face import HuggingFace
from apps.common.bundles.language_networks import DECODERS, ENCODERS, network_of, read_folder, take_network
from apps.common.data.text.tokenizer import Tokenizer
from apps.common.errors import UserError
from layers.initialization import initialize

EVERY = ENCODERS + DECODERS


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """A folder for each architecture, with what `transformers` computes of it."""
    root = tmp_path_factory.mktemp("hugging_face") / "samples"
    script = Path(__file__).with_name("hugging_face_samples.py")
    done = subprocess.run([sys.executable, script, root], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return root


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "gpt2"])
def test_logits_and_hidden_states_are_those_of_transformers(samples, name):
    source, expected = f"hf:{samples / name}", np.load(samples / name / "expected.npz")
    about, order = read_folder(HuggingFace(source), EVERY)
    model = network_of(about, **({"block_size": 9} if name == "gpt2" else {}))
    trunk = take_network(model, source, EVERY)
    assert {id(weight) for layer in trunk for weight in layer.weights} >= {id(weight) for weight in model.weights}
    place = np.zeros(order.max() + 1, "int32")
    place[order] = np.arange(len(order))
    there = expected["attention_mask"] > 0
    x = place[expected["input_ids"]]
    assert name == "gpt2" or ((x == 0) == ~there).all(), "our padding is 0"
    if name != "gpt2":
        x = {"tokens": x} | ({"segments": expected["token_type_ids"]} if name == "bert" else {})
    hidden = keras.Model(model.input, model.get_layer("norm" if name == "gpt2" else "encoded").output)
    np.testing.assert_allclose(array(hidden(x))[there], expected["hidden"][there], atol=1e-4, rtol=0)
    np.testing.assert_allclose(array(model(x))[there], expected["logits"][there][:, order], atol=1e-4, rtol=0)
    assert expected["logits"].std() > 0.5


@pytest.mark.once
@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "gpt2"])
def test_texts_become_the_same_tokens_under_other_numbers(samples, name):
    about, order = read_folder(HuggingFace(f"hf:{samples / name}"), EVERY)
    tokenizer, expected = Tokenizer(about.files["tokenizer.json"]), np.load(samples / name / "expected.npz")
    assert len(tokenizer) == len(order) == about["architecture"]["sizes"]["vocabulary_size"]
    for number, ids in enumerate(tokenizer.encode(TEXTS)):
        assert order[ids].tolist() == expected[f"text_{number}"].tolist()
    if name != "gpt2":
        assert [tokenizer.padding, tokenizer.unknown, tokenizer.begin, tokenizer.end, tokenizer.mask] == [0, 1, 2, 3, 4]
        assert tokenizer.encode(["a [MASK] film"])[0].tolist().count(4) == 1
    assert "film" in tokenizer.decode(tokenizer.encode(TEXTS[:1])[0])
