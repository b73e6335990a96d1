"""Pictures drawn from captions: the autoencoder beneath, the judge of words, what lies between two texts, bad captions."""

import hashlib
import json

import keras
import numpy as np
import pytest
from PIL import Image
from runs import bundle_weights, forked, train, train_and_kill

import layers
from apps import image_generation as app
from apps.common.bundles import answers
from apps.common.bundles.bundle import load_model, open_bundle
from apps.common.data.examples import Data, Examples
from apps.common.data.images import labelled
from apps.common.data.images.captioned import encode, read_captioned, split_pairs, vocabulary_of
from apps.common.errors import UserError
from apps.common.options.declare import make_config
from apps.common.reports import captions_found, drawn_files
from layers import models

pytestmark = pytest.mark.once  # agreement of the backends and the contract carry it to the others

CAPTIONS = ["dark left of light", "light left of dark", "dark", "light"]
OPTIONS = (
    "image-generation", "--data", "pairs.csv", "--model", "latent-flow", "--image-size", "8", "--width", "8", "--epochs", "2",
    "--batch-size", "8", "--autoencoder-epochs", "3", "--judged-steps", "2",
)  # fmt: skip


def drawn(count):
    """Pictures of 8 x 8 pixels, of one level or of two side by side, and their captions."""
    draws, levels = np.random.default_rng(0), {"dark": 40, "light": 210}
    images, captions = np.zeros((count, 8, 8, 3), "uint8"), []
    for number, image in enumerate(images):
        caption = CAPTIONS[number % 4]
        words = [word for word in caption.split() if word in levels]
        image[:, :4], image[:, 4:] = levels[words[0]], levels[words[-1]]
        image += draws.integers(0, 40, image.shape).astype("uint8")
        captions.append(caption)
    return images, captions


def write_pairs(folder, count=48):
    images, captions = drawn(count)
    lines = ["image,text"]
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        Image.fromarray(image).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{caption}")
    (folder / "pairs.csv").write_text("\n".join(lines))
    return folder / "pairs.csv"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captioned")
    write_pairs(folder)
    return folder, train(*OPTIONS, cwd=folder)


def test_a_latent_model_learns_from_captions_and_is_judged_by_them(trained):
    folder, result = trained
    assert {"class_accuracy", "class_accuracy_of_real", "class_coverage"} <= result["metrics"].keys()
    assert (folder / result["model"] / "codes.png").is_file()
    words = json.loads((folder / "mlruns" / "runs" / result["run_id"] / "words.json").read_text())
    assert {row["word"] for row in words} == {"dark", "left", "light", "of"}
    bundle = open_bundle(str(folder / result["model"]))
    model = load_model(bundle)
    codes = model(read_captioned(folder / "pairs.csv", 8)[0], training=False)
    assert float(keras.ops.std(codes)) == pytest.approx(1.0, abs=0.3)  # the autoencoder came along, its codes standardised


def test_pictures_animations_and_ways_say_they_were_generated(trained, tmp_path):
    folder, result = trained
    options = ("--seeds", "3", "--folder", "out", "--gif", "yes", "--between", "2", "--steps", "3", "--guidance", "2", "--json")
    done = forked("predict", folder / result["model"], "dark", "light left of dark", *options, cwd=tmp_path)
    rows = json.loads(done.stdout)["predictions"]
    assert [row["class"] for row in rows] == ["dark", "light left of dark", "dark to light left of dark"]
    animation = Image.open(tmp_path / rows[1]["animation"])
    assert animation.n_frames > 1 and b"Generated: yes" in animation.info["comment"] and b"Seed: 3" in animation.info["comment"]
    assert b"light left of dark" in animation.info["comment"]
    said = Image.open(tmp_path / rows[0]["picture"]).text
    weights = hashlib.sha256((folder / result["model"] / "model.keras").read_bytes()).hexdigest()
    assert (said["Run"], said["SHA-256 of model.keras"]) == (result["run_id"], weights)
    assert (said["Seed"], said["Steps"], said["Guidance"]) == ("3", "3", "2.0") and said["Model"] == "latent_diffusion"
    assert f"Run: {result['run_id']}".encode() in animation.info["comment"] and b"Guidance: 2.0" in animation.info["comment"]
    strip = Image.open(tmp_path / rows[2]["picture"])
    assert strip.size == (4 * 8, 8) and strip.text["Generated"] == "yes"
    for end, row in ((slice(0, 8), rows[0]), (slice(24, 32), rows[1])):
        alone = np.asarray(Image.open(tmp_path / row["picture"])).astype(int)
        assert np.abs(np.asarray(strip)[:, end] - alone).max() <= 1


def test_a_named_autoencoder_is_used_as_it_is(tmp_path):
    write_pairs(tmp_path)
    options = ("--epochs", "2", "--width", "4", "--batch-size", "8", "--latent-dim", "3")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for file in tmp_path.glob("*.png"):
        file.rename(pictures / file.name)
    (tmp_path / "pairs.csv").rename(pictures / "pairs.csv")
    made = train("autoencoding", "--data", "pictures", "--model", "spatial", "--depth", "2", *options, cwd=tmp_path)["model"]
    told = [*OPTIONS[:2], "pictures", *OPTIONS[3:5], *OPTIONS[7:9], "--epochs", "1", "--batch-size", "8", "--autoencoder", made]
    result = train(*told, "--image-size", "8", cwd=tmp_path)
    found, wanted = (load_model(open_bundle(str(each))) for each in (result["model"], made))
    assert found.latent_shape == (2, 2, 3)
    for ours, theirs in zip(found.autoencoder.weights, wanted.weights, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs))
    done = forked("train", *told, "--image-size", "16", cwd=tmp_path, check=2)
    assert "made for 8 x 8 x 3, the pictures are 16 x 16 x 3" in done.stderr


def test_a_run_that_goes_on_has_its_autoencoder_already(trained, tmp_path):
    write_pairs(tmp_path)
    killed = train_and_kill(*OPTIONS, cwd=tmp_path, after_epoch=1)
    done = forked("train", *OPTIONS, "--resume", killed.name, "--json", cwd=tmp_path)
    assert "going on after epoch 1" in done.stderr and "autoencoder is trained" not in done.stderr
    expected = bundle_weights(trained[0] / trained[1]["model"])
    found = bundle_weights(tmp_path / json.loads(done.stdout)["model"])
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_what_lies_between_two_texts_ends_in_them():
    model = models.Diffusion((8, 8, 1), text=(7, 5), width=4, prediction="flow")
    layers.initialize(model, 0)
    texts = np.array([[2, 3, 0, 0, 0], [4, 5, 6, 2, 0]], "int32")
    noise = np.repeat(np.random.default_rng(0).normal(size=(1, 64)), 3, 0)
    ends = [model.sample(noise[:1], text[None], steps=3, guidance=2.0)[0] for text in texts]
    pairs = (np.repeat(texts[:1], 3, 0), np.repeat(texts[1:], 3, 0), np.array([0.0, 0.5, 1.0]))
    way = model.sample(noise, pairs, steps=3, guidance=2.0)
    np.testing.assert_allclose(way[[0, 2]], ends, atol=1e-4)
    assert min(np.abs(way[1] - end).max() for end in ends) > 1e-4


def test_a_picture_is_read_word_for_word(monkeypatch):
    monkeypatch.setattr(captions_found, "STEPS", 60)
    images, captions = drawn(160)
    words = vocabulary_of(CAPTIONS)
    texts = encode(CAPTIONS, words, 4)
    labels = np.array([CAPTIONS.index(caption) for caption in captions])
    all_of_them = Examples(images, {"label": labels, "text": texts[labels]})
    parts = [all_of_them.subset(np.arange(*ends)) for ends in ((0, 120), (120, 160))]
    judge = captions_found.CaptionJudge(parts[0], texts, len(words) + 2)
    assert np.mean(judge.look(parts[1].x)[1] == parts[1].y["label"]) > 0.9
    mirrored = judge.look(parts[1].x[:, :, ::-1])[1]  # the place counts: left and right changed over
    assert np.mean(mirrored == np.array([1, 0, 2, 3])[parts[1].y["label"]]) > 0.9
    shuffled = captions_found.shuffled_share(judge, parts[1], 0)
    assert shuffled == pytest.approx(0.25, abs=0.05)
    rows = {row["word"]: row for row in judge.words(parts[1].x, parts[1].y["label"], words)}
    assert rows["dark"]["asked"] == 30 and rows["dark"]["found"] > 0.9


# What is wrong with captions


def test_captions_that_are_missing_or_repeated_are_counted(tmp_path):
    path = write_pairs(tmp_path, 24)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1], lines[1], "3.png,"]))
    images, captions, _, notes = read_captioned(path, 8)
    assert len(images) == len(captions) == 24
    assert "left out 1 of 25 captions that cannot be read (4.0%): 3.png (no caption)" in notes
    assert "2 rows say what another row says and count once" in notes
    path.write_text("\n".join([lines[0], *(line.split(",")[0] + "," for line in lines[1:])]))
    with pytest.raises(UserError, match=r"24 of 24 captions cannot be read.*no caption"):
        read_captioned(path, 8)
    (tmp_path / "broken.jsonl").write_text('{"image": "0.png", "text": "dark"}\n{"image": ')
    with pytest.raises(UserError, match="line 2: not JSON"):
        read_captioned(tmp_path / "broken.jsonl", 8)


def test_the_splits_that_a_file_of_captions_names_are_kept(tmp_path):
    path = write_pairs(tmp_path, 24)
    head, *lines = path.read_text().splitlines()
    splits = [*(["train"] * 12), *(["validation"] * 4), *(["test"] * 8)]
    path.write_text("\n".join([f"{head},split", *map(",".join, zip(lines, splits, strict=True))]))
    config = make_config(app.Config, {"data": str(path), "model": "text-flow", "image_size": 8})
    data, (images, _, _, _) = app.load_data(config), read_captioned(path, 8)
    for part, first, last in ((data.train, 0, 12), (data.validation, 12, 16), (data.test, 16, 24)):
        np.testing.assert_array_equal(part.x, images[first:last])
    with pytest.raises(UserError, match=r"--folds: pictures with captions"):
        app.load_data(make_config(app.Config, {"data": str(path), "model": "text-flow", "folds": 3}))


def test_a_picture_of_several_captions_is_decoded_once(tmp_path, monkeypatch):
    path, decoded = write_pairs(tmp_path, 24), []
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([head, *lines, *(line + " once more" for line in lines)]))
    (tmp_path / "3.png").write_bytes(b"none")

    def decode(source, shape, white=None):
        decoded.append(source)
        return decode_one(source, shape, white)

    decode_one = labelled.decode
    monkeypatch.setattr(labelled, "decode", decode)
    images, captions, _, notes = read_captioned(path, 8)
    assert len(decoded) == 24 and len(images) == len(captions) == 46 and "left out 2 of 48 pictures" in " ".join(notes)
    np.testing.assert_array_equal(images[:23], images[23:])
    assert captions[23] == f"{captions[0]} once more"


def test_the_captions_of_one_picture_stay_in_one_split():
    images = np.repeat(drawn(40)[0], 3, 0)[np.random.default_rng(1).permutation(120)]
    parts = split_pairs(images, 0)
    assert sorted(np.concatenate(parts)) == list(range(120)) and all(len(part) for part in parts)
    kinds = [{image.tobytes() for image in images[part]} for part in parts]
    assert not kinds[0] & kinds[1] and not kinds[0] & kinds[2] and not kinds[1] & kinds[2]
    with pytest.raises(UserError, match="1 different pictures with captions"):
        split_pairs(images[:1], 0)


def test_pictures_of_several_sizes_and_grey_ones_among_colours_are_made_alike(tmp_path):
    path = write_pairs(tmp_path, 24)
    Image.new("L", (20, 11), 50).save(tmp_path / "0.png")
    images, captions, _, notes = read_captioned(path, 8)
    assert images.shape == (24, 8, 8, 3) and notes == ["pictures made 8 x 8"] and len(captions) == 24
    assert (images[0] == 50).all()


def test_of_labelled_pictures_the_caption_is_the_class():
    config = make_config(app.Config, {"data": "digits", "model": "latent-diffusion"})
    data = app.load_data(config)
    assert data.about["class_names"][7] == "the digit 7" and data.about["words"][7] == "7"
    for row in (0, 5):
        text = data.train.y["text"][row]
        assert data.about["words"][text[2] - 2] == str(data.train.y["label"][row])


def test_what_a_model_cannot_draw_is_refused():
    model = models.Diffusion((8, 8, 1), text=(7, 3), width=4)
    about = {"captions": True, "words": ["a", "circle", "red"], "length": 3, "class_names": ["a red circle"]}
    for prompt, words in (
        ("a purple circle", "never seen: purple. It knows: a, circle, red"),
        ("...", "never seen: none at all"),
        ("draw me a red circle", "never seen: draw, me. It knows"),
        ("a red red circle", "4 words; this model reads 3 at most"),
    ):
        assert words in app.undrawable(model, prompt, about)
    plain = models.Diffusion((8, 8, 1), width=4)
    for model, options, words in (
        (plain, app.PredictOptions(guidance=2.0), "--guidance 2: this model has no class and no text"),
        (models.VAE((8, 8, 1), 2, width=4), app.PredictOptions(guidance=2.0), "--guidance: this model draws at once"),
        (models.VAE((8, 8, 1), 2, width=4), app.PredictOptions(gif=True), "--gif: this model draws at once"),
        (plain, app.PredictOptions(seeds=(1,), between=3), "--between: give two --seeds"),
    ):
        with pytest.raises(UserError, match=words):
            app.predict(model, ["any"], {"class_names": ["a"]}, options)


def test_each_prompt_of_a_list_has_its_pictures_or_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "CHUNK", 2)  # a way leads from one part of a call to the next
    model = models.Diffusion((8, 8, 1), text=(6, 3), width=4, prediction="flow")
    layers.initialize(model, 0)
    about = {"captions": True, "words": ["a", "circle", "red", "blue"], "length": 3, "class_names": ["a red circle"]}
    (tmp_path / "prompts.csv").write_text("prompt,id\na red circle,1\na purple circle,2\nred,3\n\"a, circle\",4\na; circle,5\n")
    options = app.PredictOptions(seeds=(0,), folder=str(tmp_path / "out"), steps=1, between=1)
    rows = list(answers.answer(app, model, about, [str(tmp_path / "prompts.csv")], (options,)))
    assert [(row["id"], row["class"]) for row in rows] == [
        ("1", "a red circle"), ("2", "a purple circle"), ("3", "red"), ("3", "a red circle to red"), ("4", "a, circle"),
        ("4", "red to a, circle"), ("5", "a; circle"), ("5", "a, circle to a; circle"),
    ]  # fmt: skip
    assert "never seen: purple" in rows[1]["reason"] and "picture" not in rows[1]
    assert len({row["picture"] for row in rows if "picture" in row}) == 7, "no prompt takes the file of another"


def test_a_long_prompt_has_a_file_as_well(tmp_path):
    model = models.Diffusion((8, 8, 1), text=(4, 200), width=4, prediction="flow")
    about = {"captions": True, "words": ["\u8d64\u8272", "b"], "length": 200, "class_names": ["b"]}
    prompts = [" ".join(["\u8d64\u8272"] * 99 + end) for end in ([], ["b"])]
    options = app.PredictOptions(seeds=(0,), folder=str(tmp_path), steps=1, between=1)
    rows = [row for each in app.predict(model, prompts, about, options) for row in each]
    assert len(rows) == 3 == len(list(tmp_path.glob("*.png")))
    assert Image.open(rows[1]["picture"]).text["Prompt"] == prompts[1]


def test_the_way_between_two_seeds_begins_and_ends_in_their_pictures():
    model = models.VAE((8, 8, 1), 2, width=4, num_classes=2)
    layers.initialize(model, 0)
    from apps.common.reports.generated_images import draw_images, latents_of

    [(name, strip, said)] = drawn_files.ways(model, [1], ["b"], (0, 4), 3)
    assert name == ("b", "-0-to-4") and strip.shape == (8, 5 * 8, 1) and said == {"Prompt": "b", "Seed": "0 to 4"}
    for end, seed in ((slice(0, 8), 0), (slice(32, 40), 4)):
        alone = draw_images(model, latents_of(model, seed, 1), [1])[0].astype(int)
        assert np.abs(strip[:, end] - alone).max() <= 1


def loaded(path, about=None):
    return app.load_data(make_config(app.Config, {"data": str(path), "model": "text-flow", "image_size": "8"}), about)


def test_a_caption_without_a_known_word_is_left_out_of_an_evaluation(tmp_path):
    path = write_pairs(tmp_path, 24)
    about = loaded(path).about
    path.write_text(path.read_text() + "\n0.png,any new thing\n1.png,new light")
    other = loaded(path, about)
    assert sum(map(len, (other.train, other.validation, other.test))) == 25
    assert "1 pictures left out: no word of their caption is trained on, as of 'any new thing'" in other.notes
    assert "2 captions are read without the words that are not trained on: new, any, thing" in other.notes
    assert other.about["class_names"] == about["class_names"] and isinstance(other, Data)


def test_captions_are_split_once_and_only_words_of_the_training_captions_are_known(tmp_path):
    path = write_pairs(tmp_path, 48)
    rows = path.read_text().splitlines()
    path.write_text("\n".join([rows[0], *(f"{row} number word{number}" for number, row in enumerate(rows[1:]))]))
    data = loaded(path)
    parts = split_pairs(drawn(48)[0], 0)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [len(part) for part in parts]
    words = data.about["words"]
    assert set(data.train.y["text"].ravel()) - {0} == set(range(2, len(words) + 2)), "each word occurs in training"
    for index, text in zip(parts[2], data.test.y["text"], strict=True):
        assert f"word{index}" not in words and (text[text > 0] > 1).all()
        assert [words[token - 2] for token in text if token] == [*CAPTIONS[index % 4].split(), "number"]
    assert f"{len(parts[2])} test pictures have a caption" in " ".join(data.notes)
    assert any(note.endswith(f"{len(parts[1])} for validation, {len(parts[2])} for the test") for note in data.notes)
    assert f"never seen: word{parts[2][0]}" in app.undrawable(None, f"dark word{parts[2][0]}", data.about)
    path.write_text("\n".join([rows[0], *(f"{row.split(',')[0]},word{number}" for number, row in enumerate(rows[1:]))]))
    with pytest.raises(UserError, match="no validation caption has a word that is trained on"):
        loaded(path)


def test_new_captions_of_known_words_stay_in_the_test(tmp_path):
    path = write_pairs(tmp_path, 48)
    rows, test = path.read_text().splitlines(), split_pairs(drawn(48)[0], 0)[2]
    rows[1 + test[0]] = rows[1 + test[0]].split(",")[0] + ",light of dark"
    path.write_text("\n".join(rows))
    data = loaded(path)
    assert "light of dark" in data.about["class_names"] and len(data.test) == len(test)
    assert f"1 of {len(test)} test pictures have a caption that no training picture has" in data.notes
    assert data.example != "'light of dark'"


def test_a_judge_that_cannot_read_real_pictures_is_remarked_upon():
    class Guessing:
        def look(self, images):
            return None, np.arange(len(images)) % 4

    examples = Examples(np.zeros((40, 2, 2, 1)), {"label": np.arange(40) // 10})
    [line] = captions_found.judge_remarks(Guessing(), examples, 0.25, 0)
    assert "class_accuracy says nothing here" in line and "25.0% of the real pictures, by chance 2" in line
    assert captions_found.judge_remarks(Guessing(), examples, 0.7, 0) == []


def test_a_model_of_captions_is_evaluated_on_other_pictures(trained, tmp_path):
    path = write_pairs(tmp_path, 60)
    path.write_text(path.read_text().replace("dark left of light", "light of dark"))  # a new caption of known words
    done = forked("evaluate", trained[0] / trained[1]["model"], "--data", path, "--json", cwd=tmp_path)
    found = json.loads(done.stdout)["metrics"]
    names = {"frechet_own_features", "frechet_of_train", "class_accuracy", "class_accuracy_of_real"}
    assert names <= found.keys() and "were trained or validated on" in done.stderr
    expected = forked("evaluate", trained[0] / trained[1]["model"], "--json", cwd=trained[0])
    assert json.loads(expected.stdout)["metrics"] == trained[1]["metrics"]


def test_models_that_draw_from_captions_have_defaults_of_their_own():
    names = ("latent-flow", "text-flow", "cvae")
    latent, pixels, others = (make_config(app.Config, {"model": name}) for name in names)
    assert (others.epochs, others.batch_size, others.learning_rate, others.schedule) == (80, 64, 1e-3, "constant")
    assert latent.epochs <= 30 >= pixels.epochs and (latent.schedule, pixels.schedule) == ("cosine", "cosine")
    given = make_config(app.Config, {"model": "latent-flow", "epochs": "80", "schedule": "constant"})
    assert (given.epochs, given.schedule, given.learning_rate) == (80, "constant", latent.learning_rate)
    assert make_config(app.Config, {"model": "latent-flow", "early_stopping": "3"}).ema == 0.0 < latent.ema
    for recipe in app.RECIPES.values():
        if recipe.options["model"] in app.TEXT:
            assert app.OTHERS.keys() <= recipe.options.keys(), "what is published does not change with a default"
