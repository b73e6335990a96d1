"""Hand-written TensorFlow: a `tf.function` step with a gradient tape, fed by `tf.data`."""

import time

import keras
import tensorflow as tf


class Loop:
    """A training loop over images in memory; `run(steps)` returns the seconds they took."""

    def __init__(self, model, images, labels, batch_size):
        optimizer = keras.optimizers.Adam(1e-3)
        optimizer.build(model.trainable_variables)
        data = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(images), seed=0)
        self.batches = iter(data.batch(batch_size, drop_remainder=True).repeat().prefetch(2))

        @tf.function
        def step(x, y):
            with tf.GradientTape() as tape:
                logits = model(x, training=True)
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
            optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True))
            return loss

        self.step = step

    def run(self, steps):
        start = time.perf_counter()
        for _ in range(steps):
            loss = self.step(*next(self.batches))
        loss.numpy()
        return time.perf_counter() - start
