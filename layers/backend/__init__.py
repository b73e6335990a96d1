"""The only place that asks which backend runs.

A layer, an app or a test calls a function of this module; the function finds the running backend's own way of doing
it (`on_tensorflow`, `on_jax`, `on_torch`), or else the one every backend shares (`plain`). `arithmetic` holds what layers
compute, `engine` what surrounds it: gradients, batches, steps, devices.
"""

import contextlib
import resource
import sys

import keras
import numpy as np

from . import fallback_log as _fallback_log
from .arithmetic import plain as _plain_arithmetic
from .engine import plain as _plain_engine

_NAME = keras.backend.backend()
if _NAME == "tensorflow":
    from .arithmetic import on_tensorflow as _arithmetic
    from .engine import on_tensorflow as _running
elif _NAME == "jax":
    from .arithmetic import on_jax as _arithmetic
    from .engine import on_jax as _running
elif _NAME == "torch":
    from .arithmetic import on_torch as _arithmetic
    from .engine import on_torch as _running
else:
    raise ValueError(f"`KERAS_BACKEND` must be tensorflow, jax or torch. Received: KERAS_BACKEND={_NAME}")


def _best(name):
    return getattr(_running, name, None) or getattr(_plain_engine, name)


def configure(deterministic=True, threads=None):
    """Set what holds for the whole process. Call once, before a model is built.

    Args:
        deterministic: Whether the same seed must give the same bits on every run, and single precision is what it is on a
            processor: a GPU else rounds the factors of its products to 11 bits.
        threads: Number of processor threads for one operation; all cores when `None`.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"`threads` must be positive. Received: threads={threads}")
    _running.configure(deterministic, threads)


def seed(number):
    """Seed what the backend draws outside of Keras's seed generators (torch's dropout), for the whole process."""
    getattr(_running, "seed", int)(number)


def feed(batches):
    """What `fit` takes to see these batches, epoch for epoch, at the least cost on the running backend.

    Args:
        batches: A `keras.utils.PyDataset` that also has `constant()` (the batch of every step where it is always the same
            one, else `None`), `batch_size`, `arrays()` (the whole split as nested tuples and
            dicts of arrays, or `None` where it is not in memory, or batches are not just rows of it) and `index_table()`
            (the examples of each step of the epoch that is set, `(steps, batch_size)`). Two more it may have:
            `samples()`, one batch of each shape there is, where not all batches are of one shape (sequences padded to the
            longest of their bucket): then nothing is traced or compiled anew once each shape was seen. And `ahead`, the
            number of batches that a thread makes before they are asked for, where that takes long (images decoded from
            disk); 0 by default. An exception is raised where its batch is asked for.
    """
    return _best("feed")(batches)


def accelerate_steps(model):
    """Let `fit` take this compiled model's steps in the running backend's fastest way that changes no number.

    torch records the first step and replays it, on a GPU in one launch; TensorFlow runs a step as one function. A model that
    is compiled with `jit_compile=True` torch gives to its compiler in one piece. Call again after `compile`.
    """
    _best("accelerate_steps")(model)


def evaluation(model, batches):
    """A function without arguments that gives `{metric: number}` of the model in inference over these batches.

    The numbers are those of `model.evaluate`, whose machinery takes longer than the arithmetic of a small network. Call it
    after a step of `fit`, where the metrics are built; what they hold of the training is lost.

    Args:
        model: A compiled model, which `accelerate_steps` has seen if it will.
        batches: As for `feed`.
    """
    return _best("evaluation")(model, batches)


def fused(optimizer):
    """The same optimizer, a Keras one, made to update its weights by the one kernel that TensorFlow and torch have for Adam.

    Of the others torch reads the learning rate back at each step, for which it waits no more. The results agree within the
    rounding of a few operations, not to the bit.
    """
    return _best("fused")(optimizer)


def compiles_when_asked():
    """Whether `compile(jit_compile=True)` makes `fit` run otherwise than it does by itself."""
    return _best("compiles_when_asked")()


def distribution(kind):
    """The context in which a model is built so that its batches are shared among the devices.

    Args:
        kind: `"none"`, or `"data"`: every device holds the model and gets a part of each batch.
    Returns:
        A context manager.
    Raises:
        ValueError: The running backend has no such distribution.
    """
    if kind == "none":
        return contextlib.nullcontext()
    if kind == "data":
        return _running.data_distribution()
    raise ValueError(f"`distribution` must be `none` or `data`. Received: distribution={kind!r}")


def loss_and_gradients(model, x, y, sample_weight=None, training=True):
    """One pass forwards and backwards, which changes no weight.

    Args:
        model: A compiled model.
        x, y, sample_weight: One batch of arrays, as `fit` takes them.
        training: Whether layers such as dropout behave as in training.
    Returns:
        The predictions, the loss (a number) and a list of arrays, the gradient of `model.compute_loss` by each of
        `model.trainable_variables`; zeros where the loss does not depend on one.
    """
    # What a pass in training moves by itself (running means, seeds) is put back.
    before = [(variable, keras.ops.copy(variable.value)) for variable in model.non_trainable_variables]
    predictions, loss, gradients = _running.loss_and_gradients(model, x, y, sample_weight, training)
    for variable, value in before:
        variable.assign(value)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, predictions), loss, gradients


def gradients(model, x, y, sample_weight=None, training=True):
    """The gradients of `loss_and_gradients` alone: a list of arrays, one a trainable variable."""
    return loss_and_gradients(model, x, y, sample_weight, training)[2]


def per_example_gradients(model, x, y, sample_weight=None):
    """The gradient of `model.compute_loss` of each example of a batch, as if it stood alone in a batch of one.

    Their mean over the examples is `gradients` of the batch, where the loss is a mean over examples and no layer looks at
    several of them (batch normalisation). They are worked out all at once, which costs little more than one pass, or one
    after the other where the backend cannot (`fallbacks` says so). No state changes. What a layer draws, such as a mask of
    dropout, is the same for all examples.

    Args:
        model: A compiled model.
        x, y, sample_weight: One batch of arrays, as `fit` takes them.
    Returns:
        A list of tensors, `(batch, *variable.shape)` for each of `model.trainable_variables`.
    """
    return list(_running.per_example_gradients(model, x, y, sample_weight))


def gradient(function, x):
    """The gradient of the sum of `function(x)` by `x`, which may itself stand inside a loss.

    Args:
        function: Takes a tensor of the shape of `x`, returns a tensor of any shape.
        x: A tensor.
    Returns:
        A tensor of the shape of `x`.
    """
    return _running.gradient(function, x)


def compiled(function, model):
    """A function made fast to call again and again with arguments of the same shapes, for inference alone.

    Args:
        function: Takes tensors (or dicts and lists of them), returns tensors; it may read the weights of `model`, whose
            values are those at each call, and must not change them.
        model: The built model whose weights it reads.
    Returns:
        A function that takes arrays as well as tensors.
    """
    return _running.compiled(function, model)


def forward(model):
    """The model's pass forwards in inference, compiled once and kept with the model: from a batch of arrays to tensors.

    `model.predict` in a loop of single rows spends twenty times as long on its own machinery.

    Args:
        model: A built model.
    """
    if "_forward" not in vars(model):  # not an attribute: Keras would look for weights in it
        vars(model)["_forward"] = compiled(lambda x: model(x, training=False), model)
    return vars(model)["_forward"]


def compilations():
    """How often this process has compiled (JAX), traced (TensorFlow) or recorded (torch) anything since the first call."""
    return len(_running.compilations())


def fallbacks():
    """What this process could not do the fast way: `{line on standard error: how often}`."""
    return dict(_fallback_log.counts)


def synchronize():
    """Wait until the device has done all it was asked to do, so that a clock tells the truth."""
    _running.synchronize()


def release_memory():
    """Give back what models that are gone have left in the backend's own caches; call it only when none is in use."""
    getattr(_running, "release_memory", int)()


def devices():
    """The names of the devices the running backend computes on."""
    return _running.devices()


def device_kind():
    """What the maker calls the device the running backend computes on; `cpu` for a processor."""
    return _running.device_kind()


def peak_memory_bytes():
    """The most memory in use so far: the accelerators' where there are any, else this process's."""
    on_device = _running.peak_device_bytes()
    if on_device is not None:
        return int(on_device)
    kibibytes_or_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes_or_bytes * (1 if sys.platform == "darwin" else 1024)


def is_out_of_memory(error):
    """Whether this exception says that the device, or the machine, had no memory left for a computation."""
    return isinstance(error, MemoryError) or _running.is_out_of_memory(error)


def out_of_memory():
    """The exception the running backend raises when memory runs out, for those who rehearse it."""
    return _running.out_of_memory()


def versions():
    """The versions that decide what a number comes out as: Keras, NumPy, the running backend."""
    return {"keras": keras.__version__, "numpy": np.__version__, **_running.versions()}


def _computed(name):
    return getattr(_arithmetic, name, None) or getattr(_plain_arithmetic, name)


# The arithmetic of the layers, on tensors of the running backend, channels last. `arithmetic.plain` has the signatures.
assign = _computed("assign")
attention = _computed("attention")
average_pooling = _computed("average_pooling")
batch_normalization = _computed("batch_normalization")
convolution = _computed("convolution")
dense = _computed("dense")
depthwise_convolution = _computed("depthwise_convolution")
drop = _computed("drop")
gelu = _computed("gelu")
gru = _computed("gru")
layer_normalization = _computed("layer_normalization")
logits = _computed("logits")
lstm = _computed("lstm")
max_pooling = _computed("max_pooling")
random_bits = _computed("random_bits")
segment_max = _computed("segment_max")
segment_sum = _computed("segment_sum")
take_places = _computed("take_places")
take_rows = _computed("take_rows")
weighted_rows = _computed("weighted_rows")
