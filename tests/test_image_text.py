"""CLIP's numbers: retrieval by hand, and what a small model learns."""

import numpy as np
import pytest
from PIL import Image

from apps import image_text as app
from apps.common.bundles import answers
from apps.common.bundles.answers import answer
from apps.common.data.images.asked import read_asked
from apps.common.data.images.paired import pairs_of
from apps.common.errors import UserError
from apps.common.options.declare import make_config
from apps.common.reports.retrieval import retrieval, right_pairs, text_rows

pytestmark = pytest.mark.once  # nothing in it depends on the backend


def pairs(captions, pictures):
    """`Pairs` of some captions and, of each, the brightness of its picture; the model knows the words a, b and c."""
    images = np.array(pictures, "uint8")[:, None, None, None] * np.ones((1, 2, 2, 3), "uint8")
    return pairs_of(images, captions, {"words": ["a", "b", "c"], "length": 2})


def write_pictures(folder, counts):
    """Pictures of a colour each in `folder / name`, as many as `counts` says of each name."""
    for row, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (8, 8), (number, 40 * row, 0)).save(folder / name / f"{number}.png")


def load(folder, **options):
    return app.load_data(make_config(app.Config, {"data": str(folder), "image_size": "8", **options}))


def colors(examples):
    """The colour of each picture, one number each."""
    return (examples.x["image"][:, 0, 0].astype(int) @ [1, 1000, 0]).tolist()


def test_retrieval_counts_pairs_of_one_caption_as_right_for_one_another():
    vectors = np.eye(4)
    right = right_pairs(pairs(["a", "b", "c c", "C, c"], [1, 2, 3, 4]))
    perfect = retrieval(vectors, vectors, right)
    assert perfect["recall_at_1"] == perfect["text_to_image_recall_at_1"] == 1.0
    swapped = retrieval(vectors, vectors[[1, 0, 3, 2]], right)
    assert swapped["recall_at_1"] == 0.5, "the last two have the same caption"
    assert swapped["chance"] == (4 + 2) / 16


def test_any_caption_of_a_picture_is_right_for_it():
    right = right_pairs(pairs(["a", "b", "c"], [1, 1, 2]))
    assert right.tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_captions_of_unknown_words_and_captions_cut_alike_are_not_the_same():
    examples = pairs(["x", "y", "a b c", "a b"], [1, 2, 3, 4])
    ids = examples.x["text"]
    assert (ids[0] == ids[1]).all() and (ids[2] == ids[3]).all(), "which is all that the model sees"
    assert (right_pairs(examples) == np.eye(4)).all()
    assert examples.subset(np.array([3, 0])).captions.tolist() == ["a b", "x"]


def test_the_splits_that_folders_name_are_kept(tmp_path):
    write_pictures(tmp_path, {"train/dark_red": 20, "train/blue": 20, "test/dark_red": 15, "test/blue": 15})
    data = load(tmp_path)
    assert sorted(colors(data.test)) == [*range(80_000, 80_015), *range(120_000, 120_015)]
    assert sorted(colors(data.train) + colors(data.validation)) == [*range(20), *range(40_000, 40_020)]
    assert "pairs by split: 36 train, 4 validation, 30 test" in data.notes
    assert set(data.about["captions"]) == {"a photo of a dark red", "a photo of a blue"}, "a folder's underscore is a blank"
    other = app.load_data(make_config(app.Config, {"data": str(tmp_path)}), data.about)
    assert len(other.test) == 30


def test_the_splits_that_a_table_names_are_kept_and_the_rest_is_taken_from_train(tmp_path):
    write_pictures(tmp_path, {"any": 40})
    rows = [f"any/{number}.png,number {number},{'' if number < 30 else 'dev'}" for number in range(40)]
    (tmp_path / "pairs.csv").write_text("\n".join(["image,caption,split", *rows]))
    data = load(tmp_path)
    assert sorted(colors(data.test)) == list(range(30, 40)) and len(data.validation) == 3
    assert any("their validation split is the test" in note for note in data.notes)
    (tmp_path / "pairs.csv").write_text("\n".join(["image,caption,split", *rows, "any/3.png,again,later"]))
    for read in (lambda: load(tmp_path), lambda: read_asked(tmp_path, (8, 8, 3))):
        with pytest.raises(UserError, match=r"row 41: expected train, validation or test in column split\. Received: later"):
            read()
    (tmp_path / "pairs.csv").write_text("\n".join(["image,caption,split", *(f"{row}test" for row in rows[:30])]))
    with pytest.raises(UserError, match="nothing to train on, the data name test alone"):
        load(tmp_path)


def test_the_captions_of_one_picture_are_in_one_split_unless_the_data_name_others(tmp_path):
    write_pictures(tmp_path, {"any": 30})
    rows = [f"any/{number}.png,{caption} of {number}" for number in range(30) for caption in ("drawing", "photo", "colour")]
    (tmp_path / "pairs.csv").write_text("\n".join(["image,caption", *rows]))
    data = load(tmp_path)
    train, validation, test = (set(colors(part)) for part in (data.train, data.validation, data.test))
    assert len(data.test) == 3 * len(test) and not train & test and not validation & (train | test)
    named = [f"{row},{'test' if index % 9 == 0 else 'train'}" for index, row in enumerate(rows)]
    (tmp_path / "pairs.csv").write_text("\n".join(["image,caption,split", *named]))
    assert any("10 of 10 test pairs are of pictures that are trained on as well" in note for note in load(tmp_path).notes)


def test_what_a_model_does_not_read_of_other_captions_is_said(tmp_path):
    write_pictures(tmp_path, {"p": 30})
    about = {"words": ["a", "b"], "length": 2, "image_shape": [8, 8, 3]}
    for captions, said in ((("a zebra", "a b", "b zebra"), "20 of 30 captions have words that no training caption has: zebra"),
                           (("a b a", "a", "b"), "10 of 30 captions are read to their word 2, the most that is trained on")):
        lines = [f"p/{number}.png,{captions[number % 3]}" for number in range(30)]
        (tmp_path / "pairs.csv").write_text("\n".join(["image,text", *lines]))
        config = make_config(app.Config, {"data": str(tmp_path)})
        assert [each for each in app.load_data(config, about).notes if "trained on" in each or "no training" in each] == [said]


def test_pictures_without_classes_and_captions_are_refused_with_what_is_expected(tmp_path):
    write_pictures(tmp_path, {"p": 2})
    with pytest.raises(UserError, match=r"single class.* or a CSV, TSV or JSONL of picture and caption"):
        load(tmp_path)


def test_all_training_captions_are_kept_to_choose_from_or_it_is_said_how_many(tmp_path, monkeypatch):
    write_pictures(tmp_path, {"any": 250})
    rows = [f"any/{number}.png,number {number}" for number in range(250)] * 2
    (tmp_path / "pairs.csv").write_text("\n".join(["image,caption", *rows]))
    data = load(tmp_path)
    assert data.about["captions"] == sorted(data.train.captions) and len(data.train) > 180
    monkeypatch.setattr(app, "CHOICES", 10)
    data = load(tmp_path)
    assert len(data.about["captions"]) == 10 and data.about["captions"][-1] == max(data.train.captions)
    assert any(note.startswith(f"10 of {len(data.train)} training captions are kept") for note in data.notes)


@pytest.mark.parametrize("prompt", ["a {name}", "{", "{0} {1}", "a picture", "{} and {}", "{} {x}", "}{}"])
def test_a_prompt_has_one_place_for_the_class(prompt):
    with pytest.raises(UserError, match=r"--prompt .*expected \{\} in it once"):
        make_config(app.Config, {"prompt": prompt})
    assert make_config(app.Config, {"prompt": "{}, drawn"}).prompt == "{}, drawn"


def test_plain_methods_find_the_colour():
    data = app.load_data(app.Config(image_size=16))
    found = app.baselines(data, app.Config())
    assert found["chance"]["recall_at_1"] < 0.05 < found["ridge on pixels"]["recall_at_1"]


def test_a_folder_with_one_file_of_captions_or_questions_is_read_by_it(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(10):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "pictures" / f"{number}.png")
    lines = [f'pictures/{number}.png,"number {number}, red"' for number in range(10)]
    (tmp_path / "captions.csv").write_text("image,caption\n" + "\n".join(lines))
    splits, *_ = app.read_pairs(make_config(app.Config, {"data": str(tmp_path)}), None)
    assert splits["train"][1][3] == "number 3, red"
    _, splits, _ = read_asked(tmp_path, (8, 8, 3))
    assert splits["train"][3].answer == "number 3, red"


class Towers:
    """Pictures whose brightest channel is what they show; texts of the words red, green and blue."""

    def embed_images(self, images):
        shown = np.asarray(images, "float64").mean((1, 2))
        return shown / np.linalg.norm(shown, axis=1, keepdims=True)

    def embed_texts(self, ids):
        return np.eye(6)[np.asarray(ids)[:, 0]][:, 2:5]

    def scale(self):
        return 10.0


ABOUT = {"kind": "pairs", "words": ["red", "green", "blue"], "length": 1, "image_shape": [8, 8, 3], "captions": ["red", "green"]}


def said(folder, prompts, colors):
    """Rows of a call for pictures of one colour each."""
    for number, color in enumerate(colors):
        Image.new("RGB", (8, 8), color).save(folder / f"{number}.png")
    words = [*(str(folder / f"{number}.png") for number in range(len(colors))), str(folder / "missing.png")]
    return list(answer(app, Towers(), ABOUT, words, (app.PredictOptions(prompts=prompts),)))


def test_each_prompt_has_its_similarity_and_its_nearest_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "CHUNK", 1)  # the nearest is that of all pictures, not of a part of them
    red, redder, none = said(tmp_path, "red,blue,Red", [(200, 50, 100), (200, 20, 10)])
    length = (200**2 + 50**2 + 100**2) ** 0.5
    assert red["text"] == "red" and red["similarities"] == pytest.approx({"red": 200 / length, "blue": 100 / length}, abs=1e-5)
    odds = np.exp(10 * (200 - 100) / length)
    assert red["probabilities"]["red"] == pytest.approx(odds / (1 + odds), abs=1e-4), "a prompt that is said twice counts once"
    assert (red["nearest_to"], redder["nearest_to"]) == (["blue"], ["red"]) and set(none) == {"input", "reason"}


def test_of_one_prompt_the_similarity_alone_is_given(tmp_path):
    row, _ = said(tmp_path, "green", [(60, 80, 0)])
    assert row == {"input": row["input"], "text": "green", "similarity": 0.8, "similarities": {"green": 0.8}}


def test_without_prompts_the_captions_are_chosen_from():
    (row,) = text_rows(np.array([[0.1, 0.6]]), ["red", "green"], 1.0, each=False)
    assert row["text"] == "green" and row["similarity"] == 0.6 and "similarities" not in row and row["probability"] > 0.5
