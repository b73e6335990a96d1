"""Find the text of a picture, the picture of a text, classify by prompts (CLIP); answer questions about pictures (Flamingo).

triptych train image-text
triptych predict MODEL PICTURES --prompts "a red circle,a blue square"
triptych train image-text --model flamingo
triptych predict MODEL photo.png --question "what color is the circle?"

The default, drawn shapes with captions such as "a red circle above a blue square", takes about a minute and a half on two cores
and finds .88 of the captions among 456 at once, where ridge regression on the pixels finds .24. Flamingo's default,
questions about such shapes, takes a minute and a half and answers .67 of them rightly (those of yes and no by chance alone); a
logistic regression on the question has about a third. CLIP's predictions say how like a picture is to each prompt, and of
which prompts it is the nearest of all the pictures given.
"""

import shlex
import textwrap
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from apps.common.app import Inputs, Metric
from apps.common.command import start
from apps.common.data.examples import PICTURE, Data, Report, evenly_spaced, find_data
from apps.common.data.images.arrays import LabelsMissing
from apps.common.data.images.asked import (
    Questions,
    drawn_asked,
    prompts_of_text,
    read_asked,
    read_examples,
    refuse_unknown,
    split_by_picture,
    usable,
)
from apps.common.data.images.captioned import (
    CAPTIONS,
    caption_file,
    draw_captioned,
    partly_read,
    read_captioned,
    refuse_unreadable,
    said_twice,
    vocabulary_of,
    words_of,
)
from apps.common.data.images.decoding import ENDINGS, NOT_DECODED
from apps.common.data.images.labelled import DEEPEST, named_images, read_images, read_labelled_images
from apps.common.data.images.paired import by_split, complete_pairs, joined, pairs_of, spelt_alike
from apps.common.data.text.prompts import answer_ids, prompts_of, question_ids
from apps.common.errors import UserError
from apps.common.options.declare import option, refused
from apps.common.options.training import Recipe, Training

TESTED = 1000  # pairs among which one is looked for, at most
CHOICES = 5000  # captions of the training to choose from, at most: of ten words each they are 0.3 MB of the bundle
JUDGED = 1000  # questions of the validation split that are answered after each epoch
HEADS = 4
DRAWN = ("drawn-questions", "captioned-shapes")
BY_MODEL = {
    "clip": {"batch_size": 128, "learning_rate": 2e-3},
    "flamingo": {"batch_size": 32, "learning_rate": 4e-3},
}
CLIP, FLAMINGO, PROMPT = {"model": "clip"}, {"model": "flamingo"}, "a photo of a {}"
NO_VISION, NO_LANGUAGE = ({name: lambda given: given is None} for name in ("vision", "language"))  # else its sizes are given


@dataclass(frozen=True)
class Config(Training):
    sources: ClassVar[tuple] = ("vision", "language")
    epochs: int = option(15, "passes over the pairs", low=1, high=100_000)
    batch_size: int | None = option(
        None, "pairs a step, each told apart from the others (CLIP 128); rows of --shots questions and one (Flamingo 32)",
        low=2, high=65_536,
    )  # fmt: skip
    learning_rate: float | None = option(
        None, "step size, the peak of a schedule (CLIP 0.002, Flamingo 0.004)", above=0, high=100, search=(3e-4, 1e-2), log=True
    )
    schedule: Literal["constant", "cosine", "step", "exponential", "one-cycle", "plateau"] = option(
        "one-cycle", "how the learning rate changes over the run", search=("constant", "cosine", "one-cycle")
    )
    model: Literal["clip", "flamingo"] = option("clip", "which text belongs to a picture, or answers to questions about it")
    tower: Literal["small-cnn", "resnet"] = option("small-cnn", "network of the pictures",
                                                   search=("small-cnn", "resnet"), needs=NO_VISION)  # fmt: skip
    embedding_dim: int = option(64, "length of the vectors that are compared", low=2, high=4096, search=(32, 64, 128), needs=CLIP)
    width: int = option(64, "features of a token in the network of the texts", low=8, search=(32, 64, 128), needs=NO_LANGUAGE)
    depth: int | None = option(
        None, "its transformer blocks (CLIP 1, Flamingo 2)", low=1, high=24, search=(1, 2, 3), needs=NO_LANGUAGE
    )
    image_size: int | None = option(None, "side every picture is resized to (32; drawn shapes 24)", low=8, high=512)
    prompt: str = option(PROMPT, "text of a class, {} its name, where the data are folders of classes", needs=CLIP)
    vision: str | None = option(
        None, "bundle whose network sees the pictures: image-classification, contrastive, CLIP; else one is trained first",
        needs=FLAMINGO,
    )  # fmt: skip
    language: str | None = option(
        None, "bundle of a GPT of text-generation that writes the answers; else one is trained first", needs=FLAMINGO
    )
    trunk_epochs: int = option(8, "epochs of what is trained first", low=1, high=10_000, search=(4, 16), needs=FLAMINGO)
    shots: int = option(2, "questions with their answers that may stand before one", low=0, high=31, needs=FLAMINGO)
    latents: int = option(8, "tokens made of each picture", low=1, high=1024, search=(4, 16), needs=FLAMINGO)
    class_weights: str = refused("none", "there are no classes, only pairs")

    def __post_init__(self):
        for name, value in BY_MODEL[self.model].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    def idle(self):
        return {"trunk_epochs": "--vision and --language are trained already"} if self.vision and self.language else {}

    def check(self):
        super().check()
        if self.model == "flamingo" and self.width % HEADS:
            raise UserError(f"--width {self.width}: expected a multiple of {HEADS}")
        if self.prompt.count("{}") != 1 or {"{", "}"} & set(self.prompt.replace("{}", "")):
            raise UserError(f"--prompt {self.prompt!r}: expected {{}} in it once, where the class stands, and no other braces")


@dataclass(frozen=True)
class PredictOptions:
    prompts: str = option("", f"CLIP: texts to choose from, commas between them; else up to {CHOICES:,} captions of the training")
    question: str = option("", "Flamingo: what is asked about each picture; nothing for a caption")
    examples: str = option("", "Flamingo: CSV or JSONL of picture, question, answer; shown before each picture")


INPUTS = Inputs("files", ENDINGS, NOT_DECODED)
METRIC = (Metric("recall_at_1", where={"kind": "pairs"}), Metric("accuracy", where={"kind": "questions"}))
RECIPES = {
    "image-text-clip": Recipe(
        "CLIP on drawn shapes: the caption of each picture found among a thousand",
        data="captioned-shapes", options={"epochs": 30, "image_size": 24},
        metric="recall_at_1", floor=0.1, source="control: ten times chance", minutes=2, seeds=3,
    ),
    "cifar-clip": Recipe(
        "CLIP on CIFAR-10's pictures with a prompt a class",
        data="cifar10_jpg", options={"tower": "resnet", "epochs": 8},
        metric="zero_shot_accuracy", floor=0.5, source="control: five times chance", minutes=60,
    ),
    "easy-vqa": Recipe(
        "Flamingo on easy-VQA: gated attention between a frozen network of pictures and a frozen GPT",
        data="easy_vqa", options={"model": "flamingo"},
        metric="accuracy", beside="question only", source="control: logistic regression on the words of the question", minutes=10,
    ),
}  # fmt: skip


def load_data(config, about=None):
    """Pairs `{"image": uint8, "text": ids}`, from rows of picture and caption, class folders, or drawn shapes."""
    if config.model == "flamingo":
        return load_questions(config, about)
    splits, notes, by_class = read_pairs(config, about)
    if about:
        test = splits.get("test") or joined(splits)
        notes += partly_read(test[1], about["words"], about["length"])
        return Data(None, None, pairs_of(*test, about), about, notes, config.data)
    parts = complete_pairs(splits, config, notes)
    captions = [text for _, texts in parts for text in texts]
    known = sorted(set(parts[0][1]))
    words, length = vocabulary_of(known), max(len(words_of(text)) for text in known)
    notes += partly_read(captions, words, length)
    notes += filter(None, [f"{len(captions)} pairs, {len(words)} different words", said_twice(captions)])
    kept = [known[index] for index in evenly_spaced(len(known), CHOICES)]
    if len(kept) < len(known):
        choosing = "predict without --prompts and zero_shot_accuracy choose among them alone"
        notes.append(f"{len(kept)} of {len(known)} training captions are kept, evenly over the alphabet: {choosing}")
    described = {
        "kind": "pairs",
        "by_class": by_class,
        "words": words,
        "length": length,
        "image_shape": list(parts[0][0].shape[1:]),
        "captions": kept,
    }
    prompts = [text for text in kept if "," not in text][:2]
    example = PICTURE + (f" --prompts {shlex.quote(','.join(prompts))}" if len(prompts) > 1 else "")
    examples = (pairs_of(*part, described) for part in parts)
    return Data(*examples, described, notes, config.data or "captioned-shapes", example=example)


def read_pairs(config, about):
    """`({split: (pictures, captions)}, notes, whether each caption is a class)` of whatever `--data` names."""
    side = about["image_shape"][0] if about else config.image_size
    if config.data in (None, "captioned-shapes"):
        refuse_prompt(config, about)
        images, captions = draw_captioned(3000, side or 24, config.seed)
        return {"train": (images, captions)}, [f"{len(images)} drawn shapes with captions"], False
    found = named_images(config.data, image_size=side or 32, channels=3)
    captioned = None if found else caption_file(config.data)
    if captioned:
        refuse_prompt(config, about)
        *pairs, notes = read_captioned(captioned, side)
        return by_split(*pairs), notes, False
    try:
        found = found or read_labelled_images(find_data(config.data), image_size=side or 32, channels=3, white=DEEPEST)
    except LabelsMissing as error:
        raise UserError(f"{error}; or {CAPTIONS}") from None
    texts = [config.prompt.replace("{}", name.replace("_", " ")) for name in found.class_names]
    splits = {name: (part.images, [texts[label] for label in part.labels]) for name, part in found.splits.items()}
    return splits, [*found.notes, f"each picture's caption is its class: {texts[0]!r}"], True


def refuse_prompt(config, about):
    if not about and config.prompt != PROMPT:
        raise UserError(f"--prompt {config.prompt!r} does nothing here: these pictures have captions. It is for class folders")


def load_questions(config, about=None):
    """Pictures and lines of question and answer, from rows, easy-VQA's layout, or drawn shapes; whole pictures in each split."""
    from apps.common.bundles.trunks import picture_shape, prompts_of_bundle

    source, drawn = config.data or DRAWN[0], config.data in (None, *DRAWN)
    shape = tuple(about["image_shape"]) if about else picture_shape(config.vision, config.image_size, 24 if drawn else 32)
    images, splits, notes = drawn_asked(source, shape, config.seed) if drawn else read_asked(find_data(source), shape)
    if about:
        prompts = prompts_of(about)
        asked = splits.get("test") or [each for part in splits.values() for each in part]
        test = usable(asked, prompts, about["length"], notes)
        test = Questions(images, tuple(test), prompts, about["length"], about["shots"] + 1)
        return Data(None, None, test, about, notes, source)
    train, validation, test = split_by_picture(splits, config.seed, notes)
    prompts, length, described = prompts_of_bundle(config.language) if config.language else prompts_of_text(train, config.shots)
    train, validation, test = (usable(asked, prompts, length, notes) for asked in (train, validation, test))
    if not (train and validation and test):
        raise UserError(f"--data {source}: a split has no question that can be used; more are needed")
    validation = validation[:: -(-len(validation) // JUDGED)]
    strange = sorted({word for each in (*validation, *test) for word in prompts.unknown(f"{each.question} {each.answer}")})
    if strange:
        notes.append(f"{len(strange)} words of validation and test never occur in training: {', '.join(strange[:5])}")
    twice = len(train) - len({(each.question, each.answer) for each in train})
    notes.append(f"{len(prompts)} tokens; {twice} training lines of question and answer stand more than once")
    described |= {
        "kind": "questions",
        "image_shape": list(shape),
        "length": length,
        "shots": config.shots,
        "answer_length": max(len(answer_ids(prompts, each.question, each.answer)) for each in train),
        "asked": list(dict.fromkeys(each.question for each in train))[:20],
    }
    shared = prompts, length, config.shots + 1
    parts = (Questions(images, tuple(train), *shared, config.shots, config.seed),
             *(Questions(images, tuple(part), *shared) for part in (validation, test)))  # fmt: skip
    example = f'{PICTURE} --question "{train[0].question}"' if train[0].question else PICTURE
    return Data(*parts, described, notes, source, example=example)


def build_model(config, data):
    """Pictures -> convolutional tower, token ids -> transformer tower, both -> unit vectors."""
    if config.model == "flamingo":
        return build_flamingo(config, data)
    from apps.common.training.optimizers import compile_model
    from layers import models

    about = data.about
    tower = {"small-cnn": "small_cnn", "resnet": {"name": "resnet", "depth": 20}}[config.tower]
    model = models.CLIP(
        tuple(about["image_shape"]), len(about["words"]) + 2, about["length"], architecture=tower,
        embedding_dim=config.embedding_dim, width=config.width, depth=config.depth or 1,
    )  # fmt: skip
    return compile_model(model, config, data.train)


def build_flamingo(config, data):
    """Pictures -> frozen trunk -> a few tokens, which a frozen GPT is shown between its blocks while it writes the answers."""
    from apps.common.bundles.pretrained import note_trunk
    from apps.common.training import frozen_trunks
    from apps.common.training.losses import TokenCrossEntropy
    from apps.common.training.optimizers import compile_model
    from apps.common.training.whole_answers import WholeAnswers
    from layers import models

    taken, train = [], data.train
    if config.vision:
        vision, digest = frozen_trunks.bundled_vision(config.vision)
        taken.append((config.vision, digest))
    else:
        vision = frozen_trunks.trained_vision(train, config.tower, config.trunk_epochs, config.seed)
    if config.language:
        language, digest = frozen_trunks.bundled_language(config.language)
        taken.append((config.language, digest))
    else:
        size = config.width, config.depth or 2, HEADS
        language = frozen_trunks.trained_language(train, size, config.trunk_epochs, config.seed)
    line, images = train.prompts.line, config.shots + 1
    model = models.flamingo(
        vision, language, image_token=line, num_images=images, num_latents=config.latents, num_heads=HEADS
    )
    if taken:
        note_trunk(model, *(" and ".join(each) for each in zip(*taken, strict=True)))
    return compile_model(model, config, train, loss=TokenCrossEntropy(), metrics=[WholeAnswers(line, images)])


def on_epoch(model, epoch, tracker, data, config):
    """Retrieval among at most 500 validation pairs; answers are judged by the metric that `fit` reports."""
    if config.model == "flamingo":
        return None
    from apps.common.reports.retrieval import embed_pairs, retrieval, right_pairs

    pairs, pictures, texts = embed_pairs(model, data.validation, 500)
    found = retrieval(pictures, texts, right_pairs(pairs))
    return {f"val_{name}": found[name] for name in ("recall_at_1", "text_to_image_recall_at_1")}


def baselines(data, config):
    """Chance, and ridge regression from shrunken pixels to the words of the caption; of questions, what is said unseen."""
    if config.model == "flamingo":
        from apps.common.reports.picture_answers import plain_answers

        return plain_answers(data.train.asked, data.test.asked)
    from apps.common.reports.retrieval import ridge_on_pixels

    train = data.train.subset(np.arange(min(len(data.train), 5000)))
    held = data.test.subset(evenly_spaced(len(data.test), TESTED))
    return ridge_on_pixels(train, held, len(data.about["words"]) + 2)


def evaluate(model, data, config):
    """Retrieval both ways on test, classification by the captions of the training, nearest texts; or the answers to questions."""
    if data.about["kind"] == "questions":
        from apps.common.reports.picture_answers import answer_report

        return Report(*answer_report(model, prompts_of(data.about), data, config.seed))

    from apps.common import figures
    from apps.common.reports.retrieval import embed_captions, embed_pairs, retrieval, right_pairs

    pairs, pictures, texts = embed_pairs(model, data.test, TESTED)
    metrics = retrieval(pictures, texts, right_pairs(pairs))
    captions = data.about["captions"]
    nearest = (pictures @ embed_captions(model, captions, data.about).T).argmax(1)
    spelt = spelt_alike(captions)
    among = np.isin(pairs.spelt, spelt)
    if among.any():
        metrics["zero_shot_accuracy"] = float((spelt[nearest] == pairs.spelt)[among].mean())
    shown = evenly_spaced(len(pictures), 12)
    titles = [textwrap.fill(captions[nearest[index]], 22) for index in shown]
    return Report(metrics, {"nearest-texts": figures.image_grid(pairs.x["image"][shown], titles)})


def predict(model, inputs, about, options=PredictOptions()):
    """The text nearest to each picture and how like it each prompt is, or the answer to the question with its probability."""
    import keras

    questions = about["kind"] == "questions"
    for name, wanted in (("prompts", not questions), ("question", questions), ("examples", questions)):
        if getattr(options, name) and not wanted:
            raise UserError(f"--{name} does nothing with this model, {'Flamingo' if questions else 'CLIP'}; leave it out")
    if questions:
        return answer(model, inputs, about, options)

    from apps.common.reports.retrieval import embed_captions, text_rows

    prompts = {}  # one of each wording
    for text in filter(None, map(str.strip, options.prompts.split(","))):
        refuse_unreadable(text, about["words"], about["length"])
        prompts.setdefault(tuple(words_of(text)), text)
    texts = list(prompts.values()) or about["captions"]
    images, reasons = read_images(inputs, about["image_shape"])
    found = iter(())
    if len(images):
        pictures = keras.ops.convert_to_numpy(model.embed_images(images))
        scale = float(keras.ops.convert_to_numpy(model.scale()))
        found = text_rows(pictures @ embed_captions(model, texts, about).T, texts, scale, each=bool(prompts))
    return [{"reason": reason} if reason else next(found) for reason in reasons]


def compare_inputs(inputs, rows):
    """Of which prompts each picture is the nearest of all that are given."""
    from apps.common.reports.retrieval import nearest_pictures

    nearest, several = nearest_pictures(rows), sum("similarities" in row for row in rows) > 1
    for position, row in enumerate(rows):
        beside = [text for text, place in nearest.items() if place == position]
        yield {**row, "nearest_to": beside} if several and "similarities" in row else row


def answer(model, inputs, about, options):
    """The answer to `--question` about each picture, after the `--examples`."""
    from apps.common.reports.picture_answers import Answerer, few_shot

    prompts, shape = prompts_of(about), tuple(about["image_shape"])
    if not options.question.strip() and any(about["asked"]):
        raise UserError(f"--question: missing; this model was asked such as {about['asked'][0]!r}")
    refuse_unknown(prompts, options.question, "--question")
    shown = read_examples(options.examples, prompts, shape, about["shots"]) if options.examples else []
    asked, room = question_ids(prompts, options.question), about["length"] - about["answer_length"]
    if len(asked) > room:
        raise UserError(f"--question: {len(asked)} tokens long, this model takes {room}")
    pictures, reasons = read_images(inputs, shape)
    found = iter(())
    if len(pictures):
        given = [few_shot(shown, picture, asked, about["shots"] + 1, room) for picture in pictures]
        answerer = Answerer(model, prompts, about["answer_length"], min(len(given), 64))
        pictures, ids = zip(*given, strict=True)
        found = iter([{"answer": text, "probability": share} for text, share in answerer(np.stack(pictures), ids)])
    return [{"reason": reason} if reason else next(found) for reason in reasons]


if __name__ == "__main__":
    start(__spec__)
