"""TensorFlow: sums over rows as sparse products, and what its own operations round or export badly."""

import math

import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled

from . import plain


def batch_normalization(x, gamma, beta, epsilon):
    def mean_of_rows(x):
        # An axis at a time: TensorFlow adds up in single precision, one after the other, and short sums round less.
        while x.shape.rank > 1:
            x = tf.reduce_mean(x, max(0, x.shape.rank - 2))
        return x

    whole = plain.single(x)
    mean = mean_of_rows(whole)
    variance = mean_of_rows(tf.math.squared_difference(whole, tf.stop_gradient(mean)))
    return tf.cast(tf.nn.batch_normalization(whole, mean, variance, beta, gamma, epsilon), x.dtype), mean, variance


def gelu(x):
    # TensorFlow's own is written with erfc, which ONNX does not have.
    return 0.5 * x * (1.0 + tf.math.erf(x * tf.constant(0.5**0.5, x.dtype)))


def lstm(x, kernel, recurrent_kernel, bias):
    return None


def gru(x, kernel, recurrent_kernel, bias):
    return None


def take_rows(x, indices):
    return gathered(tf.convert_to_tensor(x), indices)  # a variable would have to stand among the gradients


@tf.custom_gradient
def gathered(x, indices):
    # TensorFlow's own gradient lists a row as often as it was taken, and Keras's Adam, RMSprop and Adagrad square each
    # of them alone: other weights than with the sum, whenever a batch holds an id twice.
    def gradient(upstream):
        rows = tf.reshape(upstream, (-1, *upstream.shape[indices.shape.rank :]))
        return segment_sum(rows, tf.reshape(indices, (-1,)), tf.shape(x)[0]), None

    return tf.gather(x, indices), gradient


def weighted_rows(x, indices, weights):
    if not has_sparse_products():
        return tf.reduce_sum(take_rows(x, indices) * tf.expand_dims(weights, -1), axis=1)  # not `plain`'s: see `gathered`
    count, entries = tf.shape(indices)[0], tf.shape(indices)[1]
    rows = tf.repeat(tf.range(count), entries)
    return sparse_product(rows, tf.reshape(indices, (-1,)), tf.reshape(weights, (-1,)), count, tf.convert_to_tensor(x))


def segment_sum(x, segments, num_segments):
    if not has_sparse_products():
        return tf.math.unsorted_segment_sum(x, segments, num_segments)
    shape = x.shape[1:]
    sums = summed(tf.reshape(x, (-1, math.prod(shape))), segments, num_segments)
    return tf.reshape(sums, (num_segments, *shape))


@tf.custom_gradient
def summed(x, segments, num_segments):
    count = tf.shape(x)[0]
    sums = sparse_product(segments, tf.range(count), tf.ones((count,), x.dtype), num_segments, x)
    return sums, lambda upstream: (tf.gather(upstream, segments), None, None)


def sparse_product(rows, columns, values, num_rows, x):
    """`y_i = sum of values_k x_j` over the k with row i and column j."""
    places = tf.stack([tf.cast(rows, tf.int64), tf.cast(columns, tf.int64)], axis=1)
    shape = tf.stack([tf.cast(num_rows, tf.int64), tf.cast(tf.shape(x)[0], tf.int64)])
    return tf.sparse.sparse_dense_matmul(tf.SparseTensor(places, values, shape), x)


def has_sparse_products():
    """Whether a sum by segments may be a product with a sparse matrix, five times as fast on a processor.

    XLA has no such product; while the same bits are asked for Keras leaves XLA out, and no accelerator has one.
    """
    return is_op_determinism_enabled() and not tf.config.list_logical_devices("GPU")
