"""Whether pictures show what their captions say, by a network of our own that reads a picture word for word."""

import keras
import numpy as np

from apps.common.data.examples import Examples
from apps.common.reports.generated_images import Judge, class_coverage, labels_of, scaled
from apps.common.training.batches import Batches, predict_all
from apps.common.training.fit import train_epochs
from apps.common.training.optimizers import Schedule

STEPS, EPOCHS = 500, 60  # about so many, at most


class CaptionJudge(Judge):
    """Tells of each place in a caption which word stands there, and so which of the captions a picture shows best.

    A class for each caption would have a dozen pictures to learn from where there are two shapes; a word has hundreds.

    Args:
        train: Training pictures, their captions among the targets.
        texts: Token ids `(captions, length)` of each different caption, in the order of the labels.
        num_words: Number of token ids.
    """

    def __init__(self, train, texts, num_words):
        from layers import initialize
        from layers.models import small_cnn

        count, length = texts.shape
        body = small_cnn(train.x.shape[1:], length * num_words, filters=(16, 32), dense_dim=64, dropout=0.0)
        words = keras.layers.Reshape((length, num_words))(body.output)
        model = keras.Model(body.input, words)
        initialize(model, 0)
        batches = Batches(Examples(scaled(train.x), train.y["text"]), 128, 0)
        epochs = min(EPOCHS, -(-STEPS // len(batches)))
        rate = Schedule("cosine", 4e-3, epochs * len(batches))
        model.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        train_epochs(model, batches, seed=0, epochs=epochs, accelerate=False)
        features = keras.tree.flatten(body.get_layer("logits").input)[0]
        self.network = keras.Model(body.input, [features, words])
        self.texts, self.num_classes, self.references, self.said = texts, count, {}, set()

    def look(self, images):
        """Features `(n, 64)` and, of each uint8 image, the caption that fits best, `(n,)`."""
        features, logits = predict_all(self.network, scaled(images))
        logits = logits - logits.max(-1, keepdims=True)
        scores = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        fits = sum(scores[:, place][:, self.texts[:, place]] for place in range(self.texts.shape[1]))
        return features.astype("float64"), fits.argmax(-1)

    def coverage(self, classes, labels):
        """Share of the words, each at its place, that are drawn at least a fifth as often as they should be."""
        found, real = (self.texts[part] + self.texts.max() * 2 * np.arange(self.texts.shape[1]) for part in (classes, labels))
        return class_coverage(found.ravel(), real.ravel(), int(max(found.max(), real.max())) + 1)

    def words(self, images, asked, names):
        """`[{"word", "asked", "found"}]`: of the pictures whose caption has a word, the share that shows it at its place.

        Args:
            images: uint8 `(n, height, width, channels)`.
            asked: The caption each was asked of.
            names: The words of the token ids from 2.
        """
        wanted, shown = self.texts[asked], self.texts[self.look(images)[1]]
        rows = []
        for token, name in enumerate(names, 2):
            there = wanted == token
            if there.any():
                rows.append({"word": name, "asked": int(there.sum()), "found": float((shown == token)[there].mean())})
        return rows


def shuffled_share(judge, examples, seed):
    """Share of real pictures that show another one's caption: what a perfect generator reaches that does not read."""
    classes, labels = judge.look(examples.x)[1], labels_of(examples.y)
    draws = np.random.default_rng([seed, 45])
    return float(np.mean([np.mean(classes == draws.permutation(labels)) for _ in range(20)]))


def judge_remarks(judge, examples, accuracy, seed):
    """A line where real pictures are read hardly better than by chance, so that what is drawn cannot be judged; else none.

    Args:
        judge: Of the captions or the classes.
        examples: Real pictures and their captions.
        accuracy: Share of them that the judge finds to show their own caption.
        seed: Of the captions that they are shown under by chance.
    """
    by_chance = max(shuffled_share(judge, examples, seed), 1 / len(examples))
    if accuracy > by_chance + 2 * np.sqrt(by_chance / len(examples)):
        return []
    seen = f"the network that judges finds the own caption of {accuracy:.1%} of the real pictures, by chance {by_chance:.1%}"
    return [f"class_accuracy says nothing here: {seen}. Captions that share words, and more pictures, teach it to read"]
