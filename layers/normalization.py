"""Normalisation: Keras's own, with the same arguments, weights and numbers, by one fused kernel where there is one."""

import keras

from . import backend

__all__ = ["BatchNormalization", "LayerNormalization"]


@keras.saving.register_keras_serializable(package="triptych")
class BatchNormalization(keras.layers.BatchNormalization):
    """Each channel to zero mean and unit variance over the batch: `gamma (x - mean) / sqrt(variance + epsilon) + beta`.

    Args: those of `keras.layers.BatchNormalization`.
    Input and output shape: `(batch, ..., channels)`.
    Reference: Ioffe and Szegedy, 2015, arXiv 1502.03167.
    """

    def call(self, inputs, training=None, mask=None):
        last = self.axis in (-1, len(inputs.shape) - 1)
        if not (training and self.trainable) or not last or mask is not None or self.renorm or self.synchronized:
            return super().call(inputs, training=training, mask=mask)
        x = keras.ops.cast(inputs, self.compute_dtype)
        gamma = keras.ops.convert_to_tensor(self.gamma) if self.scale else None
        beta = keras.ops.convert_to_tensor(self.beta) if self.center else None
        x, mean, variance = backend.batch_normalization(x, gamma, beta, self.epsilon)
        keep = self.momentum
        self.moving_mean.assign(self.moving_mean * keep + mean * (1.0 - keep))
        self.moving_variance.assign(self.moving_variance * keep + variance * (1.0 - keep))
        return x


@keras.saving.register_keras_serializable(package="triptych")
class LayerNormalization(keras.layers.LayerNormalization):
    """Each example's features to zero mean and unit variance: `gamma (x - mean) / sqrt(variance + epsilon) + beta`.

    Args: those of `keras.layers.LayerNormalization`.
    Input and output shape: `(batch, ..., features)`.
    Reference: Ba et al., 2016, arXiv 1607.06450.
    """

    def call(self, inputs):
        if list(self.axis) not in ([-1], [len(inputs.shape) - 1]) or not (self.center and self.scale):
            return super().call(inputs)
        x = keras.ops.cast(inputs, self.compute_dtype)
        gamma, beta = keras.ops.convert_to_tensor(self.gamma), keras.ops.convert_to_tensor(self.beta)
        return backend.layer_normalization(x, gamma, beta, self.epsilon)
