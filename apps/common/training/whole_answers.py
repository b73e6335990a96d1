"""The share of whole answers that are right among lines of questions and answers, as a Keras metric."""

import keras

ops = keras.ops


class WholeAnswers(keras.metrics.Mean):
    """Share of the answers all of whose tokens, and their end, have the largest logit.

    It is the share that the likeliest token at each step would spell: each token is judged after the right ones before it.

    Args:
        line: The token that ends an answer.
        most: Answers of an example at most.
    """

    def __init__(self, line, most, name="accuracy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.line, self.most = line, most

    def update_state(self, y_true, y_pred, sample_weight):
        targets = ops.cast(y_true, "int32")
        counts = ops.greater(ops.convert_to_tensor(sample_weight), 0)
        wrong = ops.logical_and(counts, ops.not_equal(ops.cast(ops.argmax(y_pred, axis=-1), "int32"), targets))
        ends = ops.cast(ops.logical_and(counts, ops.equal(targets, self.line)), "int32")
        number = ops.minimum(ops.cumsum(ends, axis=1) - ends, self.most - 1)  # of the answer that a token belongs to
        member = ops.one_hot(number, self.most, dtype="float32")
        errors = ops.sum(member * ops.expand_dims(ops.cast(wrong, "float32"), -1), axis=1)
        there = ops.max(member * ops.expand_dims(ops.cast(ends, "float32"), -1), axis=1)
        return super().update_state(ops.cast(ops.equal(errors, 0), "float32"), there)
