"""Answer questions about a text: by a span of it, or by one of a list of answers.

    triptych train question-answering --recipe babi-qa1

takes four minutes on two cores and answers every question of bAbI's first task; a GRU taught by 1,000 of them half. Without
`--data` it reads invented stories: exact match 1.0, where the sentence most like the question gives 0.75. A BERT trained on
much text before, by `masked-language` or others, goes on with `--model bert --pretrained BUNDLE`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from apps.common.app import Inputs, Metric
from apps.common.command import start
from apps.common.data.examples import About, Data, Report, evenly_spaced, find_data, scored_part
from apps.common.data.sequences import bucket_lengths, cut_notes, ragged
from apps.common.data.text.annotated import LONGEST, Annotated, with_room
from apps.common.data.text.pieces import joined_words, word_examples, word_tokens
from apps.common.data.text.questions import Question, read_questions, split_questions
from apps.common.data.text.stories import invented_stories
from apps.common.data.text.tokenizer import TOKENIZER_FILE, Tokenizer
from apps.common.data.text.words import WORDS_FILE, Entries, fit_entries, split_words
from apps.common.errors import UserError
from apps.common.options.declare import option, refused
from apps.common.options.settle import settled_steps
from apps.common.options.training import Recipe, Splitting, Transfer, check_begins

OWN = ("attention", "gru")  # models with a vocabulary of the training words
JUDGED = 400  # questions of the validation split that are answered after each epoch
LONGEST_SPAN = 30  # words of an answer


@dataclass(frozen=True)
class Config(Transfer, Splitting):
    libraries = ("hf:",)
    bundle_rate = 1.0  # networks of texts trained here are small, and few steps hardly move a slow one

    pretrained: str | None = option(
        None, "a BERT to begin with, and its vocabulary: a bundle (folder, run id, name@alias) of masked-language, or hf:FOLDER"
    )
    model: Literal["attention", "gru", "bert"] = option(
        "attention", "reader that looks at the text, one that remembers it, or, with --pretrained, a BERT",
        search=("attention", "gru"),
    )  # fmt: skip
    epochs: int | None = option(None, "passes over the training questions; none: by their number, 6 to 60", low=1, high=100_000)
    batch_size: int = option(32, "questions a step", low=1, high=65_536, search=(16, 32, 64))
    learning_rate: float = option(5e-3, "step size (its peak, with a schedule)", above=0, high=100, search=(5e-4, 2e-2), log=True)
    clip_norm: float | None = option(1.0, "largest norm of the whole gradient", above=0)
    width: int = option(64, "features of a word and of the states", low=2, search=(32, 64, 128), needs={"model": OWN})
    hops: int = option(2, "times the question looks at the text", low=1, high=20, search=(1, 2, 3), needs={"model": "attention"})
    dropout: float = option(0.1, "share of units dropped in training", low=0, high=0.95, search=(0.0, 0.4))
    least: int = option(1, "times a word must occur in training to be known", low=1, needs={"model": OWN})
    most: int = option(50_000, "most words that are known", low=1, needs={"model": OWN})
    max_tokens: int = option(400, "words of a training text; longer ones are cut", low=1, high=LONGEST)
    questions: int | None = option(None, "train on this many questions only, the first ones", low=1)
    class_weights: str = refused("none", "answers are counted as they come")

    def check(self):
        super().check()
        if self.model == "bert" and self.pretrained is None:
            raise UserError("--model bert: begins with --pretrained, a bundle of masked-language or hf:FOLDER; add it")
        check_begins(self, "bert")


METRIC = Metric("exact_match")
INPUTS = Inputs("rows")
BABI = "Weston et al., 2015, arXiv 1502.05698; end-to-end memory networks, arXiv 1503.08895 (quoted from memory)"
RECIPES = {
    "babi-qa1": Recipe(
        "attention reader on the 10,000 questions of bAbI's first task, against a GRU on 1,000",
        data="babi_qa1", options={"model": "attention", "epochs": 8, "learning_rate": 5e-3},
        metric="accuracy", published=1.0, tolerance=0.02, source=BABI, minutes=3, seeds=3,
        control={"model": "gru", "questions": 1000, "epochs": 40},
    ),
}  # fmt: skip


def load_data(config, about=None):
    """Ids of the words of each text and question, and the answer: its class, or its first and last word."""
    source, notes, kind = config.data or "invented-stories", [], "closed"
    if config.data:
        kind, splits, notes = read_questions(find_data(config.data))
    else:
        splits = invented_stories(config.seed, {"train": 3000, "validation": 300, "test": 500})
    if about:
        asked = scored_part(splits, notes)
        refuse_unknown(kind, asked, about)
        return Data(None, None, examples_of(asked, about), about, notes + unread_notes(asked, about, ""), source)
    train, validation, test = split_questions(splits, config, notes)
    if config.questions:
        train = train[: config.questions]
        notes.append(f"the first {len(train)} training questions are used")
    if kind == "span":
        fits = [asked for asked in train if asked.span[1] < config.max_tokens]
        if len(fits) < len(train):
            notes.append(f"{len(train) - len(fits)} training answers stand behind word {config.max_tokens}, left out")
        if not fits:
            raise UserError(f"--max-tokens {config.max_tokens}: every training answer stands behind it; give a larger one")
        train = fits
    # The empty answer stands first, for those that training does not have: it is never given.
    answers = ["", *sorted({asked.answers[0] for asked in train})] if kind == "closed" else None
    if config.model == "bert":
        about = begun_about(train, kind, answers, config)
        notes.append(f"a vocabulary of {about['architecture']['sizes']['vocabulary_size']} tokens, that of {config.pretrained}")
        train = those_that_fit(train, about, notes)
    else:
        about = fitted_about(train, kind, answers, config)
    if answers:
        unseen = sorted({each for asked in (*validation, *test) for each in asked.answers} - set(answers))
        if unseen:
            notes.append(f"{len(unseen)} answers never occur in training and cannot be given: {', '.join(unseen[:5])}")
    if config.model == "bert":
        notes += unread_notes(train, about, "training ")
    notes += unread_notes(validation, about, "validation ") + unread_notes(test, about, "test ")
    train = examples_of(train, about, cut=True)
    notes += train.notes(config.batch_size)
    held, tested = examples_of(validation, about), examples_of(test, about)
    return Data(train, held, tested, about, notes, source, example=typed(test))


def fitted_about(train, kind, answers, config):
    """The words and lengths of the training questions."""
    entries = fit_entries(map(all_words, train), least=config.least, most=config.most)
    texts = bucket_lengths([len(split_words(asked.context)) for asked in train], longest=config.max_tokens)
    # Questions are short: all are as long as the longest.
    longest = max(len(split_words(asked.question)) for asked in train)
    buckets = np.stack([texts, np.full(len(texts), max(1, longest))], axis=1)
    return About({"kind": kind, "answers": answers, "buckets": buckets.tolist()}, {WORDS_FILE: entries.written()})


def begun_about(train, kind, answers, config):
    """The vocabulary and architecture of a BERT trained before, and the lengths of the training questions in its tokens."""
    from apps.common.bundles.language_networks import ENCODERS, read_network

    brought = read_network(config.pretrained, ENCODERS)
    about = {"kind": kind, "answers": answers, "architecture": brought["architecture"]}
    about = About(about, {TOKENIZER_FILE: brought.files[TOKENIZER_FILE]})
    lengths = np.array([(len(ids), len(places)) for ids, places in tokens_of(train, about)[0]])
    most = brought["architecture"]["max_tokens"]
    about["buckets"] = bucket_lengths(lengths, longest=(most, min(most, config.max_tokens))).tolist()
    return about


def those_that_fit(train, about, notes):
    """The training questions whose answer a BERT gets to see; how many are left out is noted."""
    if about["kind"] == "closed":
        return train
    places = [places for _, places in tokens_of(train, about)[0]]
    fits = [asked for asked, seen in zip(train, places, strict=True) if asked.span[1] < len(seen)]
    if len(fits) < len(train):
        most = about["architecture"]["max_tokens"]
        notes.append(f"{len(train) - len(fits)} training answers stand behind the {most} tokens that the network sees, left out")
    if not fits:
        raise UserError("every training answer stands behind the tokens that the pretrained network sees; choose another one")
    return fits


def all_words(asked):
    """The words of a text and of the question about it, in small letters."""
    return [word.lower() for text in (asked.context, asked.question) for word, _, _ in split_words(text)]


def tokens_of(asked, about):
    """Of each question and its text, one after the other: `[(ids, places of the text's words)]`, and where the text begins."""
    tokenizer, most = Tokenizer(about.files[TOKENIZER_FILE]), about["architecture"]["max_tokens"]
    contexts = word_tokens(tokenizer, [[word for word, _, _ in split_words(each.context)] for each in asked])
    questions = [ids[: question_room(about)] for ids in tokenizer.encode([each.question for each in asked])]
    joined = [joined_words(words, tokenizer, most, before) for words, before in zip(contexts, questions, strict=True)]
    return joined, [len(ids) + 1 + bool(len(ids)) for ids in questions]


def question_room(about):
    """Most tokens of a question that a BERT reads: the text has half of the room at least."""
    return about["architecture"]["max_tokens"] // 2 - 2


def words_read(asked, about):
    """How many words of each text are read, how many there are, and whether its question is cut."""
    whole = np.array([len(split_words(each.context)) for each in asked])
    if "architecture" not in about:
        return np.minimum(whole, LONGEST), whole, np.zeros(len(asked), bool)
    questions = Tokenizer(about.files[TOKENIZER_FILE]).encode([each.question for each in asked])
    read = np.array([len(places) for _, places in tokens_of(asked, about)[0]])
    return read, whole, np.array([len(ids) > question_room(about) for ids in questions])


def unread_notes(asked, about, part):
    """Lines that count the texts and questions that are not read to their end, and the answers that stand behind it, if any."""
    read, whole, cut = words_read(asked, about)
    most, questions = f"{LONGEST} words", []
    if "architecture" in about:
        most = f"the network's {about['architecture']['max_tokens']} tokens less their question"
        questions = cut_notes(cut, f"{part}questions", f"{question_room(about)} tokens")
    made = cut_notes(read < whole, f"{part}texts", most) + questions
    behind = sum(each.span[1] >= size for each, size in zip(asked, read, strict=True)) if about["kind"] == "span" else 0
    return [*made, f"{behind} of {len(asked)} {part}answers stand behind that and cannot be found"] if behind else made


def examples_of(asked, about, cut=False):
    """The examples that the model takes; those that are not `cut` have as much room as the longest needs."""
    if about["kind"] == "closed":
        known = {answer: place for place, answer in enumerate(about["answers"])}
        y = np.array([known.get(each.answers[0], 0) for each in asked], "int32")
    else:
        y = np.minimum([each.span or (0, 0) for each in asked], LONGEST - 1).astype("int32")
    if "architecture" in about:
        return bert_examples(asked, y, about, cut)
    entries = Entries.read(about.files[WORDS_FILE])

    def ids(texts):
        return ragged([entries.ids([word.lower() for word, _, _ in split_words(text)]) for text in texts], "int32")

    x = {"context": ids([each.context for each in asked]), "question": ids([each.question for each in asked])}
    longest = np.array([x["context"].lengths.max(), x["question"].lengths.max()])
    buckets = np.array(about["buckets"]) if cut else with_room(about["buckets"], longest)
    return Annotated(x, y, None, buckets, tuple(asked))


def bert_examples(asked, y, about, cut):
    """The examples of a BERT: question and text one after the other."""
    texts, firsts = tokens_of(asked, about)
    if about["kind"] == "span":
        seen = np.array([max(1, len(places)) for _, places in texts], "int32")
        y = np.minimum(y, seen[:, None] - 1)
    examples = word_examples(texts, about, y, asked, firsts=firsts, cut=cut)
    if about["kind"] == "span":
        return examples
    x = {name: each for name, each in examples.x.items() if name != "places"}
    return Annotated(x, y, None, examples.buckets[:, 1:], tuple(asked))


def refuse_unknown(kind, asked, about):
    """Raises a UserError where a trained model cannot be asked this."""
    if kind != about["kind"]:
        words = {"span": "spans of the text (SQuAD)", "closed": "one of a list (bAbI)"}
        raise UserError(f"the answers are {words[kind]}; the model gives {words[about['kind']]}")
    unknown = sorted({each.answers[0] for each in asked} - set(about["answers"] or ())) if kind == "closed" else ()
    if unknown:
        raise UserError(f"the data have answers that the model does not know: {', '.join(unknown[:5])}")


def typed(asked):
    """A short text and a question, as one types them in a shell."""
    shortest = min(asked, key=lambda each: abs(len(each.context) - 80))
    words = (f"context={' '.join(shortest.context.split())}", f"question={' '.join(shortest.question.split())}")
    return " ".join("'" + word.replace("'", "’") + "'" for word in words)


def settle(config, data):
    """Many passes over few questions."""
    return settled_steps(config, len(data.train), steps=560, epochs=(6, 60))


def build_model(config, data):
    """Text and question -> reader -> logits of the answers, or of the span's first and last word."""
    from apps.common.bundles.language_networks import ENCODERS, network_of, take_network
    from apps.common.training.losses import OneHotLoss
    from apps.common.training.optimizers import compile_model
    from apps.common.training.span_loss import SpanCrossEntropy
    from layers import models

    about, options = data.about, {"dropout": config.dropout}
    answers = about["answers"] and len(about["answers"])
    if config.model == "bert":
        encoder = network_of(about, **options)
        model = models.bert_head(encoder, answers, **options) if answers else models.bert_reader(encoder, **options)
    else:
        words, options = len(Entries.read(about.files[WORDS_FILE])), options | {"width": config.width}
        if config.model == "attention":
            model = models.attention_reader(words, answers, hops=config.hops, **options)
        else:
            model = models.gru_reader(words, answers, **options)
    loss = SpanCrossEntropy() if answers is None else OneHotLoss("cross-entropy", answers)
    trunk = take_network(model, config.pretrained, ENCODERS)
    return compile_model(model, config, data.train, loss=loss, trunk=trunk)


def answer(model, examples, about):
    """`[(answer, probability)]` of each question."""
    from apps.common.reports.classification import softmax
    from apps.common.training.batches import predict_examples

    outputs = predict_examples(model, examples, 64)
    if about["kind"] == "closed":
        probabilities = softmax(np.asarray(outputs)[:, 1:])
        return [(about["answers"][1 + int(row.argmax())], float(row.max())) for row in probabilities]
    found = []
    for asked, logits in zip(examples.records, outputs, strict=True):
        first, last, probability = best_span(*softmax(logits))
        words = split_words(asked.context)
        found.append((asked.context[words[first][1] : words[last][2]], probability))
    return found


def best_span(starts, ends):
    """The likeliest span of at most `LONGEST_SPAN` words: its first and last word and `p(first) p(last)`."""
    joint = np.triu(np.tril(starts[:, None] * ends[None, :], LONGEST_SPAN - 1))
    first, last = np.unravel_index(joint.argmax(), joint.shape)
    return int(first), int(last), float(joint[first, last])


def on_epoch(model, epoch, tracker, data, config):
    """The share of right answers to some validation questions."""
    from apps.common.reports.answering import answer_scores

    held = data.validation.subset(evenly_spaced(len(data.validation), JUDGED))
    answers = [text for text, _ in answer(model, held, data.about)]
    return {"val_exact_match": answer_scores(answers, held.records, data.about["kind"])["exact_match"]}


def baselines(data, config):
    """The most frequent answer, the answer mentioned last, and what the most similar sentence has to say."""
    from apps.common.reports.answering import answer_scores, last_mentioned, majority_answer, overlapping

    kind, known, asked = data.about["kind"], data.about["answers"], data.test.records
    usual = majority_answer(data.train.records)
    ways = {
        "majority answer": lambda each: usual,
        "word overlap": lambda each: overlapping(each, known and set(known), usual),
    }
    if kind == "closed":
        ways["last mentioned"] = lambda each: last_mentioned(each, set(known), usual)
    return {name: answer_scores([way(each) for each in asked], asked, kind) for name, way in ways.items()}


def evaluate(model, data, config):
    """Exact match and F1 on test, by the length of the text, and how far the probabilities can be trusted."""
    from apps.common.reports.answering import answer_report

    answers, probabilities = zip(*answer(model, data.test, data.about), strict=True)
    metrics, tables, drawn = answer_report(answers, probabilities, data.test.records, data.about["kind"])
    return Report(metrics, drawn, tables)


def predict(model, inputs, about):
    """The answer to each question about its text, its probability, and how much was read where it is too long."""
    reasons = [unreadable(row) for row in inputs]
    first = about["answers"][0] if about["answers"] else ""
    fine = [row for row, why in zip(inputs, reasons, strict=True) if not why]
    asked = [Question(str(row["context"]), str(row["question"]), (first,)) for row in fine]
    found = iter(answered(model, asked, about) if asked else ())
    return [{"reason": why} if why else next(found) for why in reasons]


def answered(model, asked, about):
    """A row for each question."""
    rows = []
    answers = answer(model, examples_of(asked, about), about)
    for (text, probability), read, whole, cut in zip(answers, *words_read(asked, about), strict=True):
        rows.append({"answer": text, "probability": probability})
        said = [f"read up to word {read} of {whole}"] if read < whole else []
        said += [f"the question up to its token {question_room(about)}"] if cut else []
        if said:
            rows[-1]["note"] = "; ".join(said)
    return rows


def unreadable(row):
    """Why a row cannot be answered, or nothing."""
    missing = [name for name in ("context", "question") if not split_words(str(row.get(name) or ""))]
    return f"no {' and no '.join(missing)}; expected context=... and question=..." if missing else ""


if __name__ == "__main__":
    start(__spec__)
