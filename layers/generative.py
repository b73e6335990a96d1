"""Pieces of models that draw images: latent variables, and a picture made larger without a transposed convolution."""

import keras

__all__ = ["PixelNormal", "PixelShuffle", "Reparametrization"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
class PixelShuffle(keras.layers.Layer):
    """Channels laid out as pixels: each pixel becomes a square of `factor` x `factor`, with so many times fewer channels.

    `y[factor i + a, factor j + b, c] = x[i, j, (factor a + b) C + c]`, C the channels that are left. After a convolution it
    does what a transposed one does, which XLA runs many times slower on a processor.

    Args:
        factor: How many times higher and wider the image becomes.
    Input shape: `(batch, height, width, factor^2 * channels)`.
    Output shape: `(batch, factor * height, factor * width, channels)`.
    Raises:
        ValueError: The channels are no multiple of `factor^2`.
    Reference: Shi et al., 2016, arXiv 1609.05158.
    """

    def __init__(self, factor=2, **kwargs):
        super().__init__(**kwargs)
        if factor < 1:
            raise ValueError(f"`factor` must be positive. Received: factor={factor}")
        self.factor = factor

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        if channels % self.factor**2:
            raise ValueError(
                f"The channels must be a multiple of `factor` squared. Received: {channels} channels, factor={self.factor}"
            )
        return batch, height * self.factor, width * self.factor, channels // self.factor**2

    def call(self, x):
        _, height, width, channels = self.compute_output_shape(x.shape)
        side = self.factor
        x = ops.reshape(x, (-1, height // side, width // side, side, side, channels))
        return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, height, width, channels))


@keras.saving.register_keras_serializable(package="triptych")
class Reparametrization(keras.layers.Layer):
    """A draw from a normal distribution that gradients pass through: `z = mean + exp(log_variance / 2) * noise`.

    Inputs: a list of `mean`, `log_variance` and standard normal `noise`, each `(batch, latent_dim)`.
    Output shape: `(batch, latent_dim)`.
    Reference: Kingma and Welling, 2014, arXiv 1312.6114.
    """

    def call(self, inputs):
        mean, log_variance, noise = inputs
        return mean + ops.exp(0.5 * log_variance) * noise


@keras.saving.register_keras_serializable(package="triptych")
class PixelNormal(keras.layers.Layer):
    """Standard normal numbers to pixels of a mean and a deviation each, cut to 0..1, as logits of the brightness.

    Args:
        image_shape: `(height, width, channels)`.
    Input shape: `(batch, height * width * channels)`.
    Output shape: `(batch, height, width, channels)`.
    """

    def __init__(self, image_shape, **kwargs):
        super().__init__(**kwargs)
        self.image_shape = tuple(image_shape)

    def build(self, input_shape):
        options = {"shape": self.image_shape, "trainable": False, "autocast": False}
        self.mean = self.add_weight(name="mean", initializer="zeros", **options)
        self.deviation = self.add_weight(name="deviation", initializer="ones", **options)

    def call(self, z):
        pixels = self.mean + self.deviation * ops.reshape(ops.cast(z, keras.config.floatx()), (-1, *self.image_shape))
        pixels = ops.clip(pixels, 1e-4, 1.0 - 1e-4)  # less than half a step of 256 grey levels
        return ops.log(pixels) - ops.log(1.0 - pixels)


def gaussian_kl(mean, log_variance):
    """KL(N(mean, variance) || N(0, 1)) = 1/2 sum (mean^2 + variance - 1 - log variance), in nats.

    Shapes: `(batch, latent_dim)` each, to `(batch,)`.
    """
    return 0.5 * ops.sum(ops.square(mean) + ops.exp(log_variance) - 1.0 - log_variance, axis=-1)


def looked_through(model, inputs, training, values=None):
    """What a model makes of inputs, while neither its weights nor its state learn anything from it; gradients reach the inputs.

    Args:
        model: A `keras.Model`.
        inputs: What it takes.
        training: As of `call`.
        values: Of its trainable variables, where they are not its own.
    """
    values = [variable.value for variable in model.trainable_variables] if values is None else values
    # Copies: torch counts draws in place, and these are not the model's own.
    others = [ops.copy(variable.value) for variable in model.non_trainable_variables]
    outputs, _ = model.stateless_call([ops.stop_gradient(each) for each in values], others, inputs, training=training)
    return outputs


def weighted_mean(values, weight=None):
    """The mean over a batch of `(batch,)` values, each times its weight."""
    return ops.mean(values if weight is None else values * ops.cast(weight, values.dtype))


def latent_inputs(z, labels, num_classes):
    """What a generator takes: the latent vectors, and the class indices where it is conditioned on them."""
    return {"latent": z, "label": ops.reshape(ops.cast(labels, "int32"), (-1,))} if num_classes else z
