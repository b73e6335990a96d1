"""Folders of Hugging Face: what our builders compute of them, what is taken along, what is refused."""

import importlib.util
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

EVERY = ENCODERS + DECODERS

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("transformers", "torch")), reason="transformers computes what is expected"
)


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
        assert tokenizer.encode(["a [MASK] film"], gaps=True)[0].tolist().count(4) == 1
    assert "film" in tokenizer.decode(tokenizer.encode(TEXTS[:1])[0])


@pytest.mark.once
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_tokens_added_beside_a_vocabulary_file_are_found_whole(samples, tmp_path, name):
    most = json.loads((samples / name / "config.json").read_text())["vocab_size"] - 1
    folder = shutil.copytree(samples / name, tmp_path / name)
    if name == "gpt2":  # whose table has no row to spare
        text, token, expected = "a film<|endoftext|> bad", "<|endoftext|>", most
    else:
        (folder / "added_tokens.json").write_text(json.dumps({"<Drug>": most}))
        text, token, expected = "a <Drug> film", "<Drug>", most
    about, order = read_folder(HuggingFace(f"hf:{folder}"), EVERY)
    tokenizer = Tokenizer(about.files["tokenizer.json"])
    assert order[tokenizer.encode([text])[0]].tolist().count(expected) == 1
    assert token in map(tokenizer.token, tokenizer.encode([text])[0])


def changed(samples, tmp_path, name, **config):
    """A copy of a sample whose configuration says otherwise."""
    folder = shutil.copytree(samples / name, tmp_path / name)
    whole = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(whole))
    return folder


def refused(folder, matching):
    source = f"hf:{folder}"
    with pytest.raises(UserError, match=matching) as raised:
        about, _ = read_folder(HuggingFace(source), EVERY)
        take_network(network_of(about), source, EVERY)
    assert "\n" not in str(raised.value) and str(folder) in str(raised.value)


@pytest.mark.once
@pytest.mark.parametrize(
    ("config", "matching"),
    [
        ({"model_type": "t5"}, "does not read: 't5'"),
        ({"hidden_size": 20}, "do not belong together"),
        ({"num_hidden_layers": 3}, r"no tensor encoder\.layer\.2.*do not belong together"),
        ({"vocab_size": 20}, "do not belong together"),
        ({"hidden_size": "wide"}, "hidden_size: expected a positive whole number"),
        ({"num_attention_heads": 3}, "3 heads do not divide"),
        ({"hidden_act": "swish"}, "hidden_act 'swish' is not supported"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key' is not supported"),
    ],
)
def test_a_configuration_that_fits_nothing_is_refused_in_one_line(samples, tmp_path, config, matching):
    refused(changed(samples, tmp_path, "bert", **config), matching)


@pytest.mark.once
@pytest.mark.parametrize(
    ("file", "content", "matching"),
    [
        ("config.json", None, r"has no config\.json"),
        ("config.json", b"[1]", r"config\.json cannot be read"),
        ("vocab.txt", None, "has no tokenizer"),
        ("vocab.txt", b"the\nfilm\n", r"no token '\[PAD\]'"),
        ("tokenizer.json", b"{}", "is no tokenizer"),
        ("tokenizer.json", b'{"model": {"type": "Unigram", "vocab": [["a", 0.1]]}}', "kind Unigram"),
        ("model.safetensors", None, r"has no model\.safetensors"),
        ("model.safetensors", b"\xff" * 64, r"model\.safetensors cannot be read"),
    ],
)
def test_a_file_that_is_missing_or_damaged_is_named_in_one_line(samples, tmp_path, file, content, matching):
    folder = changed(samples, tmp_path, "bert")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    refused(folder, matching)


@pytest.mark.once
def test_pickled_weights_are_never_read(samples, tmp_path):
    folder = changed(samples, tmp_path, "bert")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, r"pytorch_model\.bin may hold code")


@pytest.mark.once
def test_parts_half_precision_and_old_names_are_read(samples, tmp_path):
    import ml_dtypes
    from safetensors.numpy import load_file, save_file

    folder = changed(samples, tmp_path, "bert")
    whole = load_file(folder / "model.safetensors")
    half = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): each.astype(ml_dtypes.bfloat16) for name, each in whole.items()}
    (folder / "model.safetensors").unlink()
    places = {name: f"part-{index % 2}.safetensors" for index, name in enumerate(half)}
    for part in set(places.values()):
        save_file({name: each for name, each in half.items() if places[name] == part}, folder / part)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    found = HuggingFace(f"hf:{folder}").tensors()
    assert found.keys() == whole.keys()
    assert all(np.allclose(found[name], each, rtol=1e-2) and found[name].dtype == "float32" for name, each in whole.items())
