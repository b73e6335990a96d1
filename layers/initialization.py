"""Initial weights drawn by NumPy, so that the same seed gives the same weights on every backend."""

import contextlib
import math

import keras
import numpy as np

from .backend import keras_private

__all__ = ["initialize"]

_NAMED = {
    "glorot_uniform": keras.initializers.GlorotUniform,
    "glorot_normal": keras.initializers.GlorotNormal,
    "he_uniform": keras.initializers.HeUniform,
    "he_normal": keras.initializers.HeNormal,
    "lecun_uniform": keras.initializers.LecunUniform,
    "lecun_normal": keras.initializers.LecunNormal,
    "orthogonal": keras.initializers.Orthogonal,
    "random_normal": keras.initializers.RandomNormal,
    "random_uniform": keras.initializers.RandomUniform,
}
_CONSTANT = (
    keras.initializers.Constant,
    keras.initializers.Identity,
    keras.initializers.Ones,
    keras.initializers.Zeros,
)
# A normal distribution cut off at two standard deviations has this standard deviation.
_TRUNCATED_DEVIATION = 0.87962566103423978


def initialize(model, seed, initializer="default"):
    """Draw every randomly initialised weight anew.

    The weight at position `index` comes from `np.random.default_rng([seed, index])` and the distribution its layer
    names (`kernel` from `kernel_initializer` and so on). Constant weights (biases, scales) stay.

    Args:
        model: A built model; its weights are assigned.
        seed: A non-negative integer.
        initializer: `"default"`, or the name of an initializer for all kernels of two dimensions or more.
    Raises:
        ValueError: The initializer's name is unknown, or a weight is random and its layer says not how.
    """
    if initializer != "default" and initializer not in _NAMED:
        names = ", ".join(["default", *_NAMED])
        raise ValueError(f"`initializer` must be one of {names}. Received: initializer={initializer!r}")
    for index, (layer, variable) in enumerate(own_variables(model)):
        if _building and not np.isnan(keras.ops.convert_to_numpy(variable)).any():
            continue
        kernel = variable.name.endswith("kernel") and len(variable.shape) > 1
        chosen = _NAMED[initializer]() if initializer != "default" and kernel else initializer_of(layer, variable)
        if chosen is not None and not isinstance(chosen, _CONSTANT):
            variable.assign(draw(chosen, tuple(variable.shape), np.random.default_rng([seed, index])))


_building = []  # whether a model is being built whose random weights wait for `initialize`


@contextlib.contextmanager
def undrawn():
    """While it lasts, random weights of new models are NaN: they are to be drawn by `initialize`, which names any it misses.

    Within it `initialize` draws what waits for it and nothing else, so weights that were loaded meanwhile stay.

    Keras's own drawing would be work thrown away, and on JAX a compilation for every shape (half the start of a ResNet).
    """
    kinds = ("VarianceScaling", "TruncatedNormal", "RandomNormal", "RandomUniform", "Orthogonal")
    kinds = [getattr(keras.initializers, name) for name in kinds]
    own = [kind.__call__ for kind in kinds]

    def blank(self, shape, dtype=None, **_):
        return keras.ops.convert_to_tensor(np.full(shape, np.nan, "float32"), dtype=dtype)

    for kind in kinds:
        kind.__call__ = blank
    _building.append(True)
    try:
        yield
    finally:
        _building.pop()
        for kind, call in zip(kinds, own, strict=True):
            kind.__call__ = call


def own_variables(model):
    """Each layer with each floating-point variable that is its own, in the order the layers were made."""
    seen = set()
    for layer in keras_private.all_layers(model):
        for variable in keras_private.own_weights(layer):
            floating = "float" in keras.backend.standardize_dtype(variable.dtype)
            if floating and id(variable) not in seen:
                seen.add(id(variable))
                yield layer, variable


def initializer_of(layer, variable):
    """The initializer the layer's attribute names, `None` for a constant weight without one."""
    for name in (f"{variable.name}_initializer", f"{variable.name.removesuffix('_kernel')}_initializer"):
        if getattr(layer, name, None) is not None:
            return keras.initializers.get(getattr(layer, name))
    if isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.DepthwiseConv1D) and variable.name == "kernel":
        return layer.depthwise_initializer
    if np.ptp(keras.ops.convert_to_numpy(variable)) == 0.0:
        return None
    raise ValueError(
        f"A randomly initialised weight needs an initializer its layer names. "
        f"Received: `{variable.path}`, and {type(layer).__name__} has no attribute `{variable.name}_initializer`"
    )


def draw(initializer, shape, generator):
    """An array of `shape` from the distribution of a Keras initializer.

    Args:
        initializer: A `keras.initializers.Initializer`.
        shape: Tuple of integers.
        generator: A `np.random.Generator`.
    Raises:
        ValueError: The distribution is none of Keras's.
    """
    options = initializer.get_config()
    if isinstance(initializer, keras.initializers.VarianceScaling):
        fan_in, fan_out = fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[initializer.mode]
        variance = initializer.scale / max(1.0, fan)
        if initializer.distribution == "uniform":
            values = generator.uniform(-math.sqrt(3 * variance), math.sqrt(3 * variance), shape)
        elif initializer.distribution == "truncated_normal":
            values = truncated_normal(shape, generator) * math.sqrt(variance) / _TRUNCATED_DEVIATION
        else:
            values = generator.normal(0.0, math.sqrt(variance), shape)
    elif isinstance(initializer, keras.initializers.TruncatedNormal):
        values = options["mean"] + options["stddev"] * truncated_normal(shape, generator)
    elif isinstance(initializer, keras.initializers.RandomNormal):
        values = generator.normal(options["mean"], options["stddev"], shape)
    elif isinstance(initializer, keras.initializers.RandomUniform):
        values = generator.uniform(options["minval"], options["maxval"], shape)
    elif isinstance(initializer, keras.initializers.Orthogonal):
        values = options["gain"] * orthogonal(shape, generator)
    else:
        raise ValueError(f"`initializer` must be one of Keras's own. Received: {type(initializer).__name__}")
    return values.astype("float32")


def fans(shape):
    """Inputs and outputs of one unit: `(..., inputs, outputs)`, the axes before them a window."""
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def truncated_normal(shape, generator):
    """Standard normal numbers, those beyond two deviations drawn again."""
    values = generator.normal(size=shape)
    while (outside := np.abs(values) > 2.0).any():
        values[outside] = generator.normal(size=int(outside.sum()))
    return values


def orthogonal(shape, generator):
    """A matrix whose rows or columns, whichever are fewer, are orthonormal (Saxe et al., 2013, arXiv 1312.6120)."""
    rows, columns = math.prod(shape[:-1]), shape[-1]
    q, r = np.linalg.qr(generator.normal(size=(max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))  # or else the decomposition favours one half of all rotations
    return (q if rows >= columns else q.T).reshape(shape)
