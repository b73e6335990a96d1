"""Answers to questions about pictures: how a model gives them, how they are judged, and what plain methods answer."""

from collections import Counter

import keras
import numpy as np

from apps.common import figures
from apps.common.data.examples import evenly_spaced
from apps.common.reports.answering import answer_f1, exact_match
from layers import Decoder, GatedCrossAttention

AT_ONCE = 64  # questions answered at a time
FEW_SHOT = 500  # questions that are asked again after examples
FITTED = 20_000  # questions that a plain method learns from


class Answerer:
    """Gives the likeliest answers, token after token.

    Args:
        model: A Flamingo.
        prompts: Its `WordPrompts` or `LetterPrompts`.
        longest: Tokens of an answer at most.
        at_once: Questions at a time.
    """

    def __init__(self, model, prompts, longest, at_once=AT_ONCE):
        self.decoder, self.prompts, self.longest = Decoder(model, at_once), prompts, longest

    def __call__(self, pictures, ids):
        """`[(answer, probability)]`.

        Args:
            pictures: uint8 `(questions, num_images, height, width, channels)`.
            ids: Of the lines of each, up to where its answer begins.
        """
        found, size = [], self.decoder.batch_size
        for first in range(0, len(ids), size):
            rows = np.minimum(np.arange(first, first + size), len(ids) - 1)
            found += self.some(pictures[rows], [ids[row] for row in rows])
        return found[: len(ids)]

    def some(self, pictures, ids):
        logs = np.zeros(len(ids))

        def choose(logits, texts):
            logits = np.asarray(logits, "float64")
            best = logits.argmax(-1)
            logs[texts] -= np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1))
            return best

        self.decoder.reset({"image": pictures})
        added = self.decoder.generate(ids, self.longest + 1, choose, self.prompts.line)
        answers = [[token for token in row if token != self.prompts.line] for row in added]
        return [(self.prompts.text(row), float(np.exp(log))) for row, log in zip(answers, logs, strict=True)]


def answered(answerer, questions):
    """`[(answer, probability)]` of some `Questions`, asked by themselves."""
    found = []
    for first in range(0, len(questions), 4 * AT_ONCE):
        rows = np.arange(first, min(first + 4 * AT_ONCE, len(questions)))[:, None]
        found += answerer(questions.pictures(rows), [questions.lines[row][0] for row in rows[:, 0]])
    return found


def answered_after(answerer, questions, examples, shots, seed):
    """The answers to the first questions, each after some examples with their answers.

    Args:
        answerer: An `Answerer`.
        questions: The `Questions`.
        examples: Those that examples are drawn from.
        shots: Examples before each.
        seed: Of the draw.
    """
    count = min(len(questions), FEW_SHOT)
    drawn = np.random.default_rng([seed, 64]).integers(0, len(examples.asked), (count, shots))
    found = []
    for row in range(count):
        before = [(examples.images[examples.asked[index].picture], *examples.lines[index]) for index in drawn[row]]
        picture = questions.images[questions.asked[row].picture]
        room = questions.length - answerer.longest
        found.append(few_shot(before, picture, questions.lines[row][0], questions.num_images, room))
    pictures, ids = zip(*found, strict=True)
    return answerer(np.stack(pictures), ids)


def few_shot(examples, picture, question, num_images, length):
    """`(pictures, ids)` of a question after examples; where there is no room for all, the first are left out.

    Args:
        examples: `(picture, ids of the question, ids of the answer)` each.
        picture: uint8 `(height, width, channels)`.
        question: Ids of the question.
        num_images: Pictures that the model takes.
        length: Ids that there is room for.
    """
    examples = list(examples)
    while examples and len(question) + sum(len(asked) + len(answer) for _, asked, answer in examples) > length:
        examples.pop(0)
    shown = np.zeros((num_images, *picture.shape), "uint8")
    shown[: len(examples) + 1] = [*(each[0] for each in examples), picture]
    return shown, [*(token for _, *parts in examples for part in parts for token in part), *question]


def right(answers, asked):
    """Whether each answer is the right one."""
    return np.array([exact_match(answer, [each.answer]) for answer, each in zip(answers, asked, strict=True)])


def scores(answers, asked):
    f1 = [answer_f1(answer, [each.answer]) for answer, each in zip(answers, asked, strict=True)]
    return {"accuracy": float(right(answers, asked).mean()), "f1": float(np.mean(f1))}


def answer_report(model, prompts, data, seed):
    """`(metrics, figures, tables)` of the answers to the test's questions, by themselves and after examples.

    Args:
        model: A Flamingo.
        prompts: Its `WordPrompts` or `LetterPrompts`.
        data: The `Data`; without a training part there are no examples.
        seed: Of the choice of examples.
    """
    test, shots = data.test, data.about["shots"]
    answerer = Answerer(model, prompts, data.about["answer_length"])
    answers, probabilities = zip(*answered(answerer, test), strict=True)
    metrics = scores(answers, test.asked)
    if shots and data.train is not None:
        after = [answer for answer, _ in answered_after(answerer, test, data.train, shots, seed)]
        metrics["few_shot_accuracy"] = scores(after, test.asked[: len(after)])["accuracy"]
    fine = right(answers, test.asked)
    drawn = {
        "answers": drawn_answers(test, answers),
        "gates": gates(model),
        "calibration": figures.reliability(np.array(probabilities), fine),
    }
    wrong = np.flatnonzero(~fine)[:50]
    mistakes = [
        {"question": asked.question, "answer": answer, "right": asked.answer}
        for asked, answer in ((test.asked[row], answers[row]) for row in wrong)
    ]
    return metrics, drawn, {"by-question": kinds_table(answers, test.asked), "mistakes": mistakes}


def kinds_table(answers, asked):
    """The share of right answers by the first two words of the question."""
    kinds = [" ".join(each.question.lower().split()[:2]) or "(caption)" for each in asked]
    fine, counts = right(answers, asked), Counter(kinds)
    rows = [(kind, count, float(fine[[each == kind for each in kinds]].mean())) for kind, count in counts.most_common(20)]
    return [dict(zip(("question", "count", "accuracy"), row, strict=True)) for row in rows]


def plain_answers(train, test):
    """What the commonest answer reaches, and a logistic regression on the words of the question alone.

    Args:
        train, test: Lists of `Asked`.
    """
    usual = Counter(each.answer for each in train).most_common(1)[0][0]
    found = {"commonest answer": scores([usual] * len(test), test)}
    asked = train[:: -(-len(train) // FITTED)]
    common = {answer for answer, _ in Counter(each.answer for each in asked).most_common(100)}
    asked = [each for each in asked if each.answer in common]
    if len({each.question for each in asked}) > 1 and len(common) > 1:
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        words = CountVectorizer(token_pattern=r"\w+", ngram_range=(1, 2), max_features=5000)
        model = make_pipeline(words, LogisticRegression(max_iter=200))
        model.fit([each.question for each in asked], [each.answer for each in asked])
        found["question only"] = scores(model.predict([each.question for each in test]).tolist(), test)
    return found


def drawn_answers(questions, answers, count=12):
    """Some of the pictures with question, answer and, where it is another, the truth."""
    import textwrap

    rows = evenly_spaced(len(answers), count)
    titles = []
    for row in rows:
        asked, answer = questions.asked[row], answers[row]
        said = f"{answer} (right)" if right([answer], [asked])[0] else f"{answer}, not {asked.answer}"
        titles.append("\n".join([*textwrap.wrap(asked.question, 24), *textwrap.wrap(said, 24)]))
    return figures.image_grid(questions.images[[questions.asked[row].picture for row in rows]], titles, columns=4)


def gates(model):
    """How far the gates have opened, through which pictures reach the language model's blocks."""
    names, values = [], []
    for layer in model.layers:
        if isinstance(layer, GatedCrossAttention):
            for name in ("attention_gate", "hidden_gate"):
                names.append(f"{layer.name.removesuffix('_pictures')} {name.removesuffix('_gate')}")
                values.append(float(np.tanh(keras.ops.convert_to_numpy(getattr(layer, name)))))
    figure, axis = figures.new(6.0, 0.35 * len(names) + 1.2)
    axis.barh(range(len(names)), values)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set(title="gates, zero at the start", xlabel="tanh of the gate")
    axis.grid(alpha=0.3, axis="x")
    return figure
