"""A TensorFlow SavedModel as the trunk of a classifier: trained on TensorFlow, its features on every backend."""

import contextlib
import http.server
import io
import json
import shutil
import tarfile
import threading

import keras
import numpy as np
import pytest
from app_cases import write_pictures
from runs import bundle_weights, forked, train, triptych

from apps.common.bundles import saved_model
from apps.common.data.examples import Examples
from apps.common.errors import UserError

tf = pytest.importorskip("tensorflow")
OPTIONS = ("image-classification", "--data", "pictures", "--epochs", "2", "--batch-size", "8", "--learning-rate", "0.01")


class Convolution(tf.Module):
    """Four filters less their mean, and the mean over the picture, called as TensorFlow Hub's feature vectors are."""

    def __init__(self):
        super().__init__()
        generator = np.random.default_rng(0)
        self.kernel = tf.Variable(generator.normal(0, 0.3, (3, 3, 3, 4)).astype("float32"), name="kernel")
        self.mean = tf.Variable(np.full(4, 0.1, "float32"), trainable=False, name="mean")
        self.unused = tf.Variable(np.ones(5, "float32"), name="unused")

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((), tf.bool)])
    def __call__(self, pictures, training):
        maps = tf.nn.relu(tf.nn.conv2d(pictures, self.kernel, 2, "SAME")) - self.mean
        features = tf.reduce_mean(maps, (1, 2))
        return tf.cond(training, lambda: features * 1000.0, lambda: features)


class Reading(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
    def __call__(self, pictures):
        size = tf.strings.length(tf.io.read_file("/etc/hostname"))
        return tf.reduce_mean(pictures, (1, 2)) + tf.cast(size, "float32")


class Maps(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec((None, 4, 4, 3))])
    def serve(self, pictures):
        return {"features": tf.reduce_mean(pictures, (1, 2))}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved-model")
    write_pictures(folder)
    tf.saved_model.save(Convolution(), folder / "hub")
    tf.saved_model.save(Reading(), folder / "reading")
    maps = Maps()
    tf.saved_model.save(maps, folder / "small", signatures={"serving_default": maps.serve})
    return folder


def expected(images, kernel, mean=0.1):
    """What `Convolution` computes, by NumPy."""
    padded = np.pad(images / 255.0, ((0, 0), (0, 1), (0, 1), (0, 0)))  # stride 2 on an even side: one row behind
    size = images.shape[1] // 2
    maps = np.zeros((len(images), size, size, kernel.shape[-1]))
    for row in range(3):
        for column in range(3):
            maps += padded[:, row : row + 2 * size : 2, column : column + 2 * size : 2] @ kernel[row, column]
    return (np.maximum(maps, 0) - mean).mean((1, 2))


def test_features_are_those_of_prediction_and_the_weights_it_reads_are_found(place):
    images = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), dtype="uint8")
    graph = saved_model.opened(saved_model.packed(f"tfhub:{place / 'hub'}"), images.shape[1:], "")
    kernel = Convolution().kernel.numpy()
    np.testing.assert_allclose(graph.compute(images), expected(images, kernel), atol=1e-5)
    grey = images[..., :1]
    np.testing.assert_allclose(graph.compute(grey), expected(np.repeat(grey, 3, -1), kernel), atol=1e-5)
    trained = [shape for _, shape, trained in graph.specification() if trained]
    assert trained == [[3, 3, 3, 4]] and graph.features == 4
    assert saved_model.packed(f"tfhub:{place / 'hub'}") == saved_model.packed(f"tfhub:{place / 'hub'}")


def test_features_are_computed_once(place, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    content = saved_model.packed(f"tfhub:{place / 'hub'}")
    images = np.random.default_rng(2).integers(0, 256, (3, 8, 8, 3), dtype="uint8")
    first = saved_model.with_features(content, Examples(images, np.arange(3)), "")
    monkeypatch.setattr(saved_model, "opened", None)  # it cannot be called again
    again = saved_model.with_features(content, Examples(images, np.arange(3)), "")
    np.testing.assert_array_equal(first.x, again.x)
    assert first.fingerprint() == again.fingerprint() and (first.example_digests() == again.example_digests()).all()
    with pytest.raises(TypeError):
        saved_model.with_features(content, Examples(images[1:], np.arange(2)), "")


def test_a_frozen_one_classifies_and_its_bundle_predicts_without_its_source(place):
    shutil.copytree(place / "hub", place / "moved", dirs_exist_ok=True)
    result = train(*OPTIONS, "--pretrained", "tfhub:moved", "--freeze", cwd=place)
    shutil.rmtree(place / "moved")
    paths = [f"pictures/{name}/0.png" for name in ("dark", "light")]
    found = json.loads(forked("predict", result["model"], *paths, "--json", cwd=place).stdout)
    weights = {name: array for name, array in bundle_weights(result["model"]).items() if array.shape in ((4, 2), (2,))}
    kernel, bias = sorted(weights.values(), key=lambda array: -array.ndim)
    images = np.stack([keras.utils.img_to_array(keras.utils.load_img(place / path)) for path in paths])
    logits = expected(images, Convolution().kernel.numpy()) @ kernel + bias
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    rows = found["predictions"] if isinstance(found, dict) else found
    for row, share in zip(rows, shares, strict=True):
        assert row["probabilities"] == pytest.approx(dict(zip(("dark", "light"), share, strict=True)), abs=1e-4)
    again = json.loads(forked("evaluate", result["model"], "--json", cwd=place).stdout)
    assert again["metrics"]["accuracy"] == result["metrics"]["accuracy"]
    others = json.loads(forked("evaluate", result["model"], "--data", "pictures", "--json", cwd=place).stdout)
    assert "accuracy" in others["metrics"]
    refused = forked("export", result["model"], "--format", "onnx", "--output", "out.onnx", cwd=place, check=2)
    assert "cannot be exported whole" in refused.stderr


def test_it_is_trained_on_tensorflow_and_nowhere_else(place):
    words = (*OPTIONS, "--pretrained", f"tfhub:{place / 'hub'}", "--trunk-rate", "1")
    if keras.backend.backend() != "tensorflow":
        refused = forked("train", *words, cwd=place, check=2)
        assert "only TensorFlow trains a SavedModel" in refused.stderr
        return
    result = train(*words, "--augment", "flip", cwd=place)
    saved = {array.shape: array for array in bundle_weights(result["model"]).values()}
    moved = np.abs(saved[(3, 3, 3, 4)] - Convolution().kernel.numpy()).max()
    assert moved > 1e-3 and np.array_equal(saved[(5,)], np.ones(5))
    again = json.loads(forked("evaluate", result["model"], "--json", cwd=place).stdout)
    assert again["metrics"]["cross_entropy"] == pytest.approx(result["metrics"]["cross_entropy"], abs=1e-5)


@pytest.mark.once
def test_what_could_read_files_or_takes_no_such_pictures_is_refused_in_one_line(place):
    for name, shape, said in (
        ("reading", (8, 8, 3), "ReadFile could do more"),
        ("small", (8, 8, 3), "pictures of 8 x 8 x 3"),
    ):
        with pytest.raises(UserError, match=said):
            saved_model.opened(saved_model.packed(f"tfhub:{place / name}"), shape, "--pretrained")
    assert saved_model.opened(saved_model.packed(f"tfhub:{place / 'small'}"), (4, 4, 3), "").features == 3
    refused = forked("train", *OPTIONS, "--pretrained", "tfhub:nowhere", "--freeze", cwd=place, check=2)
    assert "no saved_model.pb" in refused.stderr.strip().splitlines()[-1]


@contextlib.contextmanager
def served(archive):
    """The address of a site that answers as a library of SavedModels does: any module is this archive."""

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.path.startswith("/module?") and "tf-hub-format=compressed" in self.path
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(archive if known else b"")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.once
def test_a_url_is_fetched_once_and_trains_as_its_folder_does(place, monkeypatch):
    pytest.importorskip("tensorflow_hub")
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(place / "fetched"))
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        archive.add(place / "hub", arcname=".")
    with served(written.getvalue()) as site:
        fetched = train(*OPTIONS, "--pretrained", f"tfhub:{site}/module", "--freeze", cwd=place, run=triptych)
        with pytest.raises(UserError, match=r"/none: cannot be fetched .*404"):
            saved_model.packed(f"tfhub:{site}/none")
    assert saved_model.packed(f"tfhub:{site}/module") == saved_model.packed(f"tfhub:{place / 'hub'}")
    folder = train(*OPTIONS, "--pretrained", "tfhub:hub", "--freeze", cwd=place)
    assert fetched["metrics"] == folder["metrics"]


@pytest.mark.once
@pytest.mark.parametrize("name", ["../outside", "/outside"])
def test_what_a_url_sends_stays_inside_its_folder(name, place, monkeypatch):
    pytest.importorskip("tensorflow_hub")
    cache = place / "deep" / "cache"
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(cache))
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"evil"))
    with served(written.getvalue()) as site, pytest.raises(UserError, match="pretrained"):
        saved_model.packed(f"tfhub:{site}/module")
    strays = [path for path in place.rglob("outside") if cache not in path.parents]
    assert not strays and not (place.parents[-1] / "outside").exists()


@pytest.mark.once
@pytest.mark.parametrize("name", ["../outside", "/outside"])
def test_nothing_is_unpacked_outside_its_folder(tmp_path, name):
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(ValueError, match="no plain file inside it"):
        saved_model.unpack(written.getvalue(), tmp_path / "inside")
    assert not (tmp_path / "outside").exists()
