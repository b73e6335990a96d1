"""The perceptron, and the criterion under which gradient descent is Rosenblatt's learning rule."""

import keras

from . import backend

__all__ = ["Perceptron", "PerceptronLoss"]

ops = keras.ops


def step(x):
    """Heaviside's function: one where `x` is positive, else zero."""
    return ops.cast(x > 0, x.dtype)


@keras.saving.register_keras_serializable(package="triptych")
class Perceptron(keras.layers.Layer):
    """Units that weigh their inputs and pass the sum a = W'x + b through a step, a sigmoid or a ReLU.

    The step has no slope, so its gradient is taken to be one: under `(t - y)^2 / 2` descent then makes the classic
    step w += learning_rate (t - y) x.

    Args:
        units: Number of units.
        activation: `"step"`, `"sigmoid"` or `"relu"`.
    Input shape: `(batch, features)`.
    Output shape: `(batch, units)`.
    Raises:
        ValueError: The activation is none of the three.
    Reference: Rosenblatt, 1958; the gradient: Bengio et al., 2013, arXiv 1308.3432.
    """

    def __init__(self, units=1, activation="step", **kwargs):
        super().__init__(**kwargs)
        if activation not in ("step", "sigmoid", "relu"):
            raise ValueError(f"`activation` must be step, sigmoid or relu. Received: activation={activation!r}")
        self.units, self.activation = units, activation
        self.kernel_initializer = keras.initializers.GlorotUniform()

    def build(self, input_shape):
        shape = (input_shape[-1], self.units)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=self.kernel_initializer)
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")

    def call(self, x):
        x = backend.dense(x, ops.convert_to_tensor(self.kernel), ops.convert_to_tensor(self.bias))
        if self.activation == "step":
            return ops.stop_gradient(step(x)) + (x - ops.stop_gradient(x))
        return ops.sigmoid(x) if self.activation == "sigmoid" else ops.relu(x)

    def compute_output_shape(self, input_shape):
        return *input_shape[:-1], self.units


@keras.saving.register_keras_serializable(package="triptych")
class PerceptronLoss(keras.losses.Loss):
    """The perceptron criterion on the sums a before the step: `sum (y - t) a` with `y = step(a)`, zero where right.

    Its gradient by w is (y - t) x, so plain gradient descent is the classic rule w += learning_rate (t - y) x.
    Targets are zeros and ones of the shape of the logits, or class numbers `(batch,)` for several units.

    Reference: Rosenblatt, 1958; Duda, Hart and Stork, 2001, section 5.5.
    """

    def call(self, y_true, y_pred):
        units = y_pred.shape[-1]
        if units > 1 and (len(y_true.shape) == 1 or y_true.shape[-1] == 1):
            y_true = ops.one_hot(ops.cast(ops.reshape(y_true, (-1,)), "int32"), units)
        y_true = ops.cast(ops.reshape(y_true, (-1, units)), y_pred.dtype)
        wrong = ops.stop_gradient(step(y_pred)) - y_true
        return ops.sum(wrong * y_pred, axis=-1)
