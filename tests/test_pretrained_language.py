"""A network that reads, trained before, in the tasks that begin with it: by a bundle and by a Hugging Face folder."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from app_cases import write_asked_stories, write_reviews, write_tagged, write_words
from one_backend import share
from runs import bundle_weights, forked, train

from apps.common.bundles.pretrained import by_name
from apps.common.options.declare import make_config
from layers import models
from layers.initialization import own_variables

SHORT = ("--epochs", "2", "--batch-size", "8", "--learning-rate", "0.01")
MASKED = ("masked-language", "--data", "reviews.txt", "--max-tokens", "16")
SMALL = ("--width", "8", "--depth", "1", "--num-heads", "2", "--vocabulary-size", "80")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data of every kind."""
    folder = tmp_path_factory.mktemp("language")
    for write in (write_reviews, write_tagged, write_asked_stories, write_words):
        write(folder)
    texts = (folder / "reviews.csv").read_text() + (folder / "sentences.conll").read_text() + (folder / "stories.txt").read_text()
    (folder / "reviews.txt").write_text(texts)
    paragraphs = [
        {"context": f"{name} went to {town}.", "qas": [{"question": f"Where is {name}?", "answers": [
            {"text": town, "answer_start": len(name) + 9}]}]}
        for name in ("Ann", "Bob", "Eve") for town in ("Oslo", "Rome", "Paris", "Bern")
    ]  # fmt: skip
    (folder / "squad.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs * 2}]}))
    return folder


@pytest.fixture(scope="module")
def source(place):
    return train(*MASKED, *SMALL, *SHORT, cwd=place)["model"]


@pytest.fixture(scope="module")
def samples(place):
    script = Path(__file__).with_name("hugging_face_samples.py")
    subprocess.run([sys.executable, script, place / "samples"], capture_output=True, check=True)
    return place / "samples"


ROADS = {
    "text-classification": (("--data", "reviews.csv", "--model", "bert"), ("a lovely day", "dull")),
    "tagging": (("--data", "sentences.conll", "--model", "bert"), ("Eve went to Rome.", "It rained, " * 20)),
    "question-answering": (("--data", "stories.txt", "--model", "bert"), ("context=Ann went to Rome.", "question=Where is Ann?")),
    "masked-language": (MASKED[1:], ("it was [MASK] and fine",)),
    "text-generation": (("--data", "words.txt", "--block-size", "8", "--steps", "2"), ("to be", "or")),
    "spans": (("--data", "squad.json", "--model", "bert"), ("context=Ann went to Rome.", "question=Where is Ann?")),
}
FROM_BUNDLE = [
    ("text-classification", "--freeze"), ("tagging", "--unfreeze-epoch", "2"), ("question-answering", "--trunk-rate", "1"),
]  # fmt: skip
FROM_FOLDER = [("text-classification", "bert"), ("tagging", "roberta"), ("spans", "distilbert"), ("masked-language", "roberta"),
               ("text-generation", "gpt2"), ("question-answering", "bert")]  # fmt: skip


def gone_on(task, begun, source, place, *more):
    """The result of a run that began with this source, which evaluates and predicts when the source is gone."""
    options, inputs = ROADS[task]
    task = {"spans": "question-answering"}.get(task, task)
    result = train(task, *options, *SHORT, "--pretrained", begun, *more, cwd=place)
    hidden = source.rename(source.with_name("gone"))
    try:
        answer = json.loads(forked("evaluate", result["model"], "--json", cwd=place).stdout)
        assert answer["metrics"] == pytest.approx(result["metrics"], rel=1e-4, abs=1e-5)
        more = ("--length", "3") if task == "text-generation" else ()
        rows = json.loads(forked("predict", result["model"], *inputs, *more, "--json", cwd=place).stdout)["predictions"]
        assert rows and not any("reason" in row for row in rows)
    finally:
        hidden.rename(source)
    return result


def trunk_of(model):
    """The sums of the weights of a bundle's embedding and blocks, the least first."""
    parts = ("token_embedding", "position_embedding", "encoder_block")
    return sorted(float(array.sum()) for name, array in bundle_weights(model).items() if any(part in name for part in parts))


@pytest.mark.once
def test_the_head_that_guesses_words_is_not_taken_for_one_that_tells_classes():
    sizes = {"max_tokens": 8, "width": 8, "depth": 1}
    trained, head = models.masked_language_model(9, **sizes), models.bert_head(models.bert(9, **sizes), 3)
    own = list(own_variables(head))
    new = [variable.path for (_, variable), found in zip(own, by_name(trained, own), strict=True) if found is None]
    assert new == ["pooler/kernel", "pooler/bias", "logits/kernel", "logits/bias"]


@pytest.mark.parametrize("road", share(FROM_BUNDLE), ids=lambda road: road[0])
def test_a_bundle_goes_on_in_other_tasks_with_its_vocabulary(road, source, place):
    task, *options = road
    result = gone_on(task, source, Path(source), place, *options)
    before, after = trunk_of(source), trunk_of(result["model"])
    assert len(before) > 10 and (before == after) == (options[0] != "--trunk-rate"), "held still, or trained"
    old, new = (Path(each) / "tokenizer.json" for each in (source, result["model"]))
    assert old.read_bytes() == new.read_bytes()


@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("transformers", "torch")), reason="transformers writes the folders"
)
@pytest.mark.parametrize("road", share(FROM_FOLDER), ids=lambda road: "-".join(road))
def test_a_folder_goes_on_and_is_needed_no_more(road, samples, place):
    task, name = road
    gone_on(task, f"hf:samples/{name}", samples / name, place)


@pytest.mark.once
def test_what_cannot_be_begun_with_is_refused_in_one_line(source, place):
    (place / "empty").mkdir()
    other = train("text-classification", "--data", "reviews.csv", "--width", "8", "--filters", "4", *SHORT, cwd=place)["model"]
    for given, words in (
        (("--pretrained", source), "begins with --model bert; add it"),
        (("--model", "bert", "--pretrained", other), "a bundle of text-classification that this task cannot begin with"),
        (("--model", "bert", "--pretrained", source, "--width", "16"), "--width does nothing with --pretrained"),
        (("--model", "bert", "--pretrained", "hf:empty"), "has no config.json"),
        (("--model", "bert", "--pretrained", "hf:nowhere"), "no such folder"),
    ):
        refused = forked("train", "text-classification", "--data", "reviews.csv", *given, cwd=place, check=2)
        (line,) = refused.stderr.strip().splitlines()[-1:]
        assert words in line and "Traceback" not in refused.stderr


@pytest.mark.once
def test_a_bundle_of_texts_trains_at_the_whole_rate_and_by_all_its_tokens_and_what_was_trained_elsewhere_does_not():
    from apps import image_classification, text_classification

    own, theirs = (make_config(text_classification.Config, {"model": "bert", "pretrained": name}) for name in ("a", "hf:a"))
    assert (own.trunk_factor, own.pooled_by, theirs.trunk_factor, theirs.pooled_by) == (1.0, "mean", 0.1, "first")
    assert make_config(image_classification.Config, {"pretrained": "a"}).trunk_factor == 0.1
    given = {"model": "bert", "pretrained": "a", "trunk_rate": 0.5, "pooling": "first"}
    asked = make_config(text_classification.Config, given)
    assert (asked.trunk_factor, asked.pooled_by) == (0.5, "first")
