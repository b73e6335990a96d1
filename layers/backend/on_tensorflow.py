"""TensorFlow: gradients by tape, one device strategy, nothing faster than `keras.ops` on a processor."""

import numpy as np
import tensorflow as tf


def loss_and_gradients(model, x, y, sample_weight, training):
    variables = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        predictions = model(x, training=training)
        loss = model.compute_loss(x, y, predictions, sample_weight, training=training)
    gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return predictions, float(loss), [np.asarray(tf.convert_to_tensor(gradient)) for gradient in gradients]


def gradient(function, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(function(x))
    return tape.gradient(total, x)


def synchronize():
    if tf.config.list_logical_devices("GPU"):
        tf.test.experimental.sync_devices()


def devices():
    return [device.name for device in tf.config.list_logical_devices()]


def peak_device_bytes():
    gpus = tf.config.list_logical_devices("GPU")
    return sum(tf.config.experimental.get_memory_info(gpu.name)["peak"] for gpu in gpus) if gpus else None


def configure(deterministic, threads):
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)


def data_distribution():
    return tf.distribute.MirroredStrategy().scope()


def versions():
    return {"tensorflow": tf.__version__}
