"""Models that draw images: closed forms, what each player's loss moves, how images are judged, the app."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image
from runs import forked, train
from scipy.integrate import quad
from scipy.stats import norm

import layers
from apps import image_generation as app
from apps.common.bundles.bundle import load_model, open_bundle
from apps.common.data.examples import Data, Examples
from apps.common.errors import UserError
from apps.common.options.declare import make_config
from apps.common.reports import generated_images as generation
from layers import backend, models
from layers.generative import gaussian_kl

pytestmark = pytest.mark.once  # agreement of the backends and the contract carry it to the others

SHAPE, CLASSES, COUNT = (8, 8, 1), 3, 6
generator = np.random.default_rng(0)
IMAGES = generator.integers(0, 256, (COUNT, *SHAPE)).astype("uint8")
LABELS = np.arange(COUNT) % CLASSES
MODELS = {"vae": models.VAE, "dcgan": models.DCGAN}
each_model = pytest.mark.parametrize("name", MODELS)


def made(kind, seed=0, noise=True, **options):
    """A small model with seeded weights, its draws replaced by fixed numbers."""
    model = kind(SHAPE, 5, **{"num_classes": CLASSES, "width": 4, **options})
    layers.initialize(model, seed)
    if noise:
        fixed = np.random.default_rng(9).normal(size=(COUNT, 5)).astype("float32")
        model.noise = lambda count: keras.ops.convert_to_tensor(fixed)
    model.compile("sgd")
    return model


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


# Layers and losses


def test_pixel_shuffle_lays_channels_out_as_pixels():
    x = np.arange(2 * 2 * 3 * 8, dtype="float32").reshape(2, 2, 3, 8)
    y = array(layers.PixelShuffle(2)(x))
    assert y.shape == (2, 4, 6, 2)
    for i, j, a, b, c in np.ndindex(2, 3, 2, 2, 2):
        np.testing.assert_array_equal(y[:, 2 * i + a, 2 * j + b, c], x[:, i, j, (2 * a + b) * 2 + c])
    with pytest.raises(ValueError, match="multiple of `factor` squared"):
        layers.PixelShuffle(2)(x[..., :6])


def test_kl_is_the_integral_it_stands_for():
    mean, log_variance = np.array([[0.0, 1.3], [-2.0, 0.4]]), np.array([[0.0, -1.0], [0.8, -3.0]])

    def integral(mean, log_variance):
        q = norm(mean, np.exp(log_variance / 2))
        return quad(lambda z: q.pdf(z) * (q.logpdf(z) - norm.logpdf(z)), -15, 15, points=[mean])[0]

    expected = np.vectorize(integral)(mean, log_variance).sum(1)
    found = array(gaussian_kl(*(keras.ops.convert_to_tensor(part.astype("float32")) for part in (mean, log_variance))))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert array(gaussian_kl(np.zeros((1, 3), "float32"), np.zeros((1, 3), "float32"))) == 0.0


@pytest.mark.parametrize("which", ["mean", "log_variance"])
def test_reparametrised_gradients_are_finite_differences(which):
    draws = np.random.default_rng(1)
    mean, log_variance, noise = draws.normal(size=(3, 2, 4))
    layer, step = layers.Reparametrization(), 1e-5

    def total(mean, log_variance):
        return np.cos(mean + np.exp(log_variance / 2) * noise).sum()

    def found(x):
        given = {"mean": mean.astype("float32"), "log_variance": log_variance.astype("float32"), which: x}
        return keras.ops.cos(layer([given["mean"], given["log_variance"], noise.astype("float32")]))

    values = {"mean": mean, "log_variance": log_variance}
    expected = np.zeros_like(mean)
    for place in np.ndindex(*mean.shape):
        up, down = (values[which].copy() for _ in range(2))
        up[place] += step
        down[place] -= step
        expected[place] = (total(**{**values, which: up}) - total(**{**values, which: down})) / (2 * step)
    slope = backend.gradient(found, keras.ops.convert_to_tensor(values[which].astype("float32")))
    np.testing.assert_allclose(array(slope), expected, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_the_elbo_reaches_the_encoder_through_the_draw():
    model = made(models.VAE)
    kernel = model.encoder.trainable_variables[-2]
    place = next(i for i, variable in enumerate(model.trainable_variables) if variable is kernel)
    slope = backend.gradients(model, IMAGES, LABELS)[place]
    direction = np.random.default_rng(2).normal(size=slope.shape).astype("float32")
    before, losses = array(kernel).copy(), []
    for step in (1e-2, -1e-2):
        kernel.assign(before + step * direction)
        losses.append(backend.loss_and_gradients(model, IMAGES, LABELS)[1])
    np.testing.assert_allclose((losses[0] - losses[1]) / 2e-2, (slope * direction).sum(), rtol=1e-2)


class OneLoss(models.DCGAN):
    """A DCGAN in which only one of the players has a loss."""

    player = 0

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.mean(self.players_losses(x, y, y_pred, training)[self.player])


@pytest.mark.parametrize(("player", "name"), [(0, "discriminator"), (1, "generator")])
def test_a_players_loss_has_no_gradient_on_the_others_weights(player, name):
    model = made(OneLoss)
    model.player = player
    own = {id(variable) for variable in getattr(model, name).trainable_variables}
    for variable, gradient in zip(model.trainable_variables, backend.gradients(model, IMAGES, LABELS), strict=True):
        assert (np.abs(gradient).max() > 0) == (id(variable) in own), variable.path


def test_the_players_losses_are_the_formula():
    model = made(models.DCGAN)
    real = array(model(IMAGES, training=False))[np.arange(COUNT), LABELS]
    inputs = {"latent": array(model.noise(COUNT)), "label": LABELS.astype("int32")}
    fake = 2 / (1 + np.exp(-array(model.generator(inputs, training=False)))) - 1
    told = array(model.discriminator(fake, training=False))[np.arange(COUNT), LABELS]
    losses = model.players_losses(IMAGES, LABELS, model(IMAGES, training=False), False)
    np.testing.assert_allclose(array(losses[0]), -np.log(expit(real)) - np.log(1 - expit(told)), rtol=1e-4)
    np.testing.assert_allclose(array(losses[1]), -np.log(expit(told)), rtol=1e-4)


def expit(x):
    return 1 / (1 + np.exp(-x))


@each_model
def test_the_class_decides_what_is_drawn(name):
    model = made(MODELS[name], width=8)
    latents = np.repeat(generation.latents_of(model, 0, 1), CLASSES, 0)
    inputs = {"latent": latents, "label": np.arange(CLASSES, dtype="int32")}
    logits = array(model.generator(inputs, training=False))
    assert all(np.abs(logits[a] - logits[b]).max() > 1e-2 for a, b in ((0, 1), (1, 2), (0, 2)))
    losses = [backend.loss_and_gradients(model, IMAGES, labels)[1] for labels in (LABELS, LABELS[::-1].copy())]
    assert losses[0] != pytest.approx(losses[1], rel=1e-6)
    plain = made(MODELS[name], num_classes=0)
    with_labels, without = (backend.loss_and_gradients(plain, IMAGES, labels)[1] for labels in (LABELS, None))
    assert with_labels == without


@pytest.mark.parametrize("shape", [(4, 4, 1), (9, 17, 3)])
def test_images_of_any_size_come_back_in_that_size(shape):
    model = models.VAE(shape, 5, width=2)
    assert array(model.encoder(np.zeros((2, *shape), "float32"))).shape == (2, 10)
    assert model.generator.output_shape[1:] == shape
    assert generation.draw_images(model, generation.latents_of(model, 0, 2)).shape == (2, *shape)


# Two players


def built(**options):
    """A DCGAN as the app builds it, and the arguments of a training step."""
    config = make_config(app.Config, {"model": "cdcgan", "width": 4, "latent_dim": 5, "optimizer": "sgd", **options})
    about = {"image_shape": SHAPE, "class_names": list("abc")}
    model = app.build_model(config, Data(Examples(IMAGES, LABELS), None, None, about))
    model.noise = made(models.DCGAN).noise
    return model


def moved(model, name, before):
    variables = getattr(model, name).trainable_variables
    return [array(variable) - old for variable, old in zip(variables, before[name], strict=True)]


def weights(model):
    return {name: [array(v).copy() for v in getattr(model, name).trainable_variables] for name in ("generator", "discriminator")}


def test_each_player_moves_by_its_own_rate_down_its_own_gradient():
    rates = {"generator": 0.01, "discriminator": 0.2}
    model = built(learning_rate=0.01, discriminator_rate=0.2)
    slopes = {v.path: g for v, g in zip(model.trainable_variables, backend.gradients(model, IMAGES, LABELS), strict=True)}
    before = weights(model)
    model.train_on_batch(IMAGES, LABELS)
    for name, rate in rates.items():
        variables = getattr(model, name).trainable_variables
        for variable, step in zip(variables, moved(model, name, before), strict=True):
            np.testing.assert_allclose(step, -rate * slopes[variable.path], rtol=1e-3, atol=1e-6)
    assert float(array(model.optimizer.learning_rate)) == pytest.approx(0.01)


def test_the_generator_moves_once_in_so_many_steps_of_the_discriminator():
    model, still = built(discriminator_steps=3, learning_rate=0.1), []
    for _ in range(6):
        before = weights(model)
        model.train_on_batch(IMAGES, LABELS)
        still.append([max(np.abs(step).max() for step in moved(model, name, before)) == 0.0 for name in before])
    assert still == [[True, False], [True, False], [False, False]] * 2


def test_options_that_do_nothing_are_refused():
    for options, words in (
        ({"model": "vae", "discriminator_steps": "2"}, "--discriminator-steps does nothing with --model vae"),
        ({"model": "dcgan", "kl_weight": "2"}, "--kl-weight does nothing with --model dcgan"),
        ({"class_weights": "balanced"}, "--class-weights does nothing here"),
        ({"model": "dcgan", "schedule": "plateau"}, "--schedule plateau: two players"),
    ):
        with pytest.raises(UserError, match=words):
            make_config(app.Config, options)
    with pytest.raises(UserError, match="no common learning rate"):
        built().optimizer.learning_rate = 1.0


# Judging


def test_the_control_has_the_mean_and_spread_of_each_pixel():
    draws = np.random.default_rng(5)
    means, deviations = draws.uniform(90, 160, (4, 4, 1)), draws.uniform(5, 25, (4, 4, 1))
    pixels = draws.normal(means, deviations, (3000, 4, 4, 1)).round().astype("uint8")
    about = {"image_shape": [4, 4, 1], "class_names": ["a", "b"]}
    examples = Examples(pixels, np.zeros(3000, int))
    model = app.build_model(app.Config(model="pixel-gaussian", epochs=1), Data(examples, None, None, about))
    drawn = generation.draw_images(model, generation.latents_of(model, 0, 3000)).astype("float64")
    np.testing.assert_allclose(drawn.mean(0), means, atol=2)
    np.testing.assert_allclose(drawn.std(0), deviations, rtol=0.1)
    density = norm(pixels.mean(0) / 255, pixels.std(0) / 255).logpdf(pixels[:2] / 255).sum((1, 2, 3))
    np.testing.assert_allclose(-array(model(pixels[:2])), density, rtol=1e-3)


def test_the_reported_elbo_is_the_loss_at_the_same_draw(monkeypatch):
    model = made(models.VAE)
    monkeypatch.setattr(generation, "latents_of", lambda model, seed, count: array(model.noise(count)))
    found = generation.bound(model, Examples(IMAGES, LABELS), 0)
    loss = backend.loss_and_gradients(model, IMAGES, LABELS, training=False)[1]
    assert -found["elbo"] == pytest.approx(loss, rel=1e-5) == found["reconstruction"] + found["kl"]
    assert found["bits_per_pixel"] == pytest.approx(loss / np.log(2) / 64, rel=1e-5)
    heavy = made(models.VAE, kl_weight=3.0)
    more = backend.loss_and_gradients(heavy, IMAGES, LABELS, training=False)[1]
    assert more - loss == pytest.approx(2 * found["kl"], rel=1e-4)


# The app

OPTIONS = (
    "image-generation", "--data", "pictures", "--model", "cdcgan", "--epochs", "4", "--batch-size", "16", "--width", "4",
    "--discriminator-steps", "2", "--discriminator-rate", "0.002", "--ema", "0.9", "--schedule", "cosine", "--seed", "3",
)  # fmt: skip


def write_pictures(folder):
    for name, level in (("dark", 60), ("light", 190)):
        (folder / name).mkdir(parents=True)
        for index in range(30):
            pixels = np.random.default_rng([index, level]).integers(level - 40, level + 40, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    write_pictures(folder / "pictures")
    return folder, train(*OPTIONS, cwd=folder)


def test_a_run_reports_its_measures_and_tracks_its_samples(trained):
    folder, result = trained
    expected = {"frechet_own_features", "class_coverage", "diversity", "class_accuracy", "frechet_of_train"}
    assert set(result["metrics"]) == expected
    figures = folder / "mlruns" / "runs" / result["run_id"] / "figures"
    assert len(list((figures / "samples").glob("epoch-*.png"))) == 4
    drawn = ["samples", "interpolation"]
    for picture in (*(folder / result["model"] / f"{name}.png" for name in drawn), figures / "samples" / "epoch-00002.png"):
        said = Image.open(picture).text
        assert (said["Generated"], said["Model"], said["Run"]) == ("yes", "dcgan", result["run_id"]) and "Seed" in said
    assert "Generated" not in Image.open(folder / result["model"] / "curves.png").text, "nothing drew what it shows"
    state = json.loads((figures.parent / "checkpoints" / "epoch-00004" / "state.json").read_text())["history"]
    assert {"discriminator_loss", "generator_loss", "val_frechet_own_features"} <= state.keys()


def test_predict_writes_the_same_pictures_for_a_seed(trained, tmp_path):
    folder, result = trained
    bundle = folder / result["model"]
    done = forked("predict", bundle, "dark", "any", "--seeds", "0,5", "--folder", "out", "--json", cwd=tmp_path)
    rows = json.loads(done.stdout)["predictions"]
    assert [(row["class"], row["seed"]) for row in rows] == [("dark", 0), ("dark", 5), ("dark", 0), ("light", 5)]
    pictures = {row["picture"]: np.asarray(Image.open(tmp_path / row["picture"])) for row in rows}
    assert {picture.shape for picture in pictures.values()} == {(8, 8)} and len(pictures) == 3
    opened = open_bundle(str(bundle))
    options = app.PredictOptions(seeds=(5, 0), folder=str(tmp_path / "again"))
    [found] = app.predict(load_model(opened), ["dark"], opened.about, options)
    for row in found:
        np.testing.assert_array_equal(np.asarray(Image.open(row["picture"])), pictures[f"out/dark-{row['seed']}.png"])


def test_what_cannot_be_drawn_is_said(trained, tmp_path):
    opened = open_bundle(str(trained[0] / trained[1]["model"]))
    options = app.PredictOptions(folder=str(tmp_path / "out"))
    elsewhere = app.PredictOptions(seeds=(3,), folder=str(tmp_path / "a"))
    [wrong, right] = app.predict(load_model(opened), ["drak", "light"], opened.about, elsewhere)
    assert wrong["class"] == "drak" and wrong["reason"].startswith("not a class of this model. Did you mean 'dark'")
    assert [(row["class"], row["seed"]) for row in right] == [("light", 3)]
    [plain] = app.predict(made(models.VAE, num_classes=0), ["dark"], opened.about, options)
    assert plain["reason"].startswith("this model draws without a class; ask for: any")
    (tmp_path / "out").write_text("taken")
    with pytest.raises(UserError, match="--folder"):
        app.predict(load_model(opened), ["dark"], opened.about, replace(options))


def test_what_to_draw_stands_on_lines_and_a_class_is_no_folder(trained, tmp_path):
    (tmp_path / "dark").mkdir()  # as where the pictures of the classes lie
    (tmp_path / "wanted.txt").write_text("light\ndrak\n\nany\n")
    bundle = trained[0] / trained[1]["model"]
    done = forked("predict", bundle, "wanted.txt", "dark", "--seeds", "0,5", "--between", "1", "--json", cwd=tmp_path)
    rows = json.loads(done.stdout)["predictions"]
    assert [(row.get("input"), row.get("class"), row.get("seed")) for row in rows] == [
        *(("light", "light", seed) for seed in (0, 5, "0 to 5")),
        ("drak", "drak", None),
        ("", None, None),
        *(("any", name, seed) for name, seed in (("dark", 0), ("light", 5), ("dark", "0 to 5"))),
        *((None, "dark", seed) for seed in (0, 5, "0 to 5")),
    ]
    assert rows[3]["reason"].startswith("not a class") and rows[4]["reason"] == "empty"
    assert "2 of 11 inputs have no answer: drak (not a class of this model." in done.stderr
    done = forked("predict", bundle, "drak", "--json", cwd=tmp_path, check=2)
    assert done.stderr.count("\n") == 1 and "no input has an answer: drak (not a class of this model." in done.stderr


def test_captions_are_read_drawn_and_told_apart():
    from apps.common.data.images.captioned import draw_captioned, encode, unknown_words, vocabulary_of

    images, captions = draw_captioned(60, 24, 0)
    assert images.shape == (60, 24, 24, 3) and any("left of" in each for each in captions) and captions[0].startswith("a ")
    red = [image for image, caption in zip(images, captions, strict=True) if caption == "a red circle"]
    assert all(abs(image[..., 0].astype(int) - image[..., 2]).max() > 100 for image in red)
    words = vocabulary_of(captions)
    ids = encode(["A red circle", "red"], words, 5)
    assert ids.shape == (2, 5) and ids[0, 1] == ids[1, 0] > 1 and (ids[0, 3:] == 0).all()
    assert unknown_words("a purple circle", words) == ["purple"]


def test_a_model_of_unlabelled_pictures_is_evaluated_on_a_set_by_name():
    about = {"image_shape": [8, 8, 1], "class_names": ["group 1", "group 2"]}
    data = app.load_data(app.Config(model="vae", data="digits"), about)
    assert set(data.test.y) == {0, 1} and data.about["class_names"] == about["class_names"]


def test_a_model_of_one_fold_is_evaluated_on_data_that_name_their_splits(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        write_pictures(tmp_path / split)
    config = app.Config(data=str(tmp_path), folds=3)
    with pytest.raises(UserError, match="--folds"):
        app.load_data(config)
    assert len(app.load_data(config, {"image_shape": [8, 8, 1], "class_names": ["dark", "light"]}).test)


def test_without_labels_groups_of_alike_pictures_stand_in_for_classes(tmp_path):
    shades = np.random.default_rng(0).integers(0, 40, (24, 8, 8)) + 200 * (np.arange(24) % 2)[:, None, None]
    for number, shade in enumerate(shades):
        Image.fromarray(shade.astype("uint8")).save(tmp_path / f"{number}.png")
    config = make_config(app.Config, {"data": str(tmp_path), "model": "vae"})
    data = app.load_data(config)
    assert data.about["class_names"] == ["group 1", "group 2"] and data.example == "any"  # a group cannot be asked for
    light = data.train.x.mean((1, 2, 3)) > 120
    assert len(set(data.train.y[light])) == len(set(data.train.y[~light])) == 1 and len(set(data.train.y)) == 2
    assert app.load_data(config, data.about).about["class_names"] == ["group 1", "group 2"]
    with pytest.raises(UserError, match="Or draw without classes: --model vae"):
        app.load_data(replace(config, model="cvae"))
