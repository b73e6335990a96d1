"""TensorFlow: gradients by tape, one function a step, batches by `tf.data`, the devices."""

import functools
import gc
import math

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import func_graph
from tensorflow.python.framework.config import disable_op_determinism

from .. import fallback_log, keras_private
from . import plain

# It drops orderings it takes for superfluous, and some are not: one in eight trainings of a DCGAN gave other losses.
tf.config.optimizer.set_experimental_options({"dependency_optimization": False})


def loss_and_gradients(model, x, y, sample_weight, training):
    variables = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        predictions = model(x, training=training)
        loss = model.compute_loss(x, y, predictions, sample_weight, training=training)
    gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return predictions, float(loss), [np.asarray(tf.convert_to_tensor(gradient)) for gradient in gradients]


def per_example_gradients(model, x, y, sample_weight):
    batch = (x, y, sample_weight)
    parts = tf.nest.flatten(batch)
    there = [index for index, part in enumerate(parts) if part is not None]
    compiled = vars(model).setdefault("_per_example_gradients", {})  # kept on the model, so that it is traced once
    nesting, key = tf.nest.map_structure(lambda part: None, batch), tuple(there)
    if key not in compiled:
        compiled[key] = tf.function(gradients_of_each(model, nesting, there), autograph=False, reduce_retracing=True)
    return compiled[key]([tf.convert_to_tensor(parts[index]) for index in there])


def gradients_of_each(model, nesting, there):
    """A function of those parts of a batch of this nesting that are `there`, the others `None`."""
    loss = plain.loss_of_example(model)

    def gradients(given):
        values = [tf.convert_to_tensor(variable.value) for variable in model.trainable_variables]
        others = [tf.convert_to_tensor(variable.value) for variable in model.non_trainable_variables]

        def of_one(given):
            parts = tf.nest.flatten(nesting)
            for index, part in zip(there, given, strict=True):
                parts[index] = part
            with tf.GradientTape() as tape:
                tape.watch(values)
                total = loss(values, others, tf.nest.pack_sequence_as(nesting, parts))
            return tape.gradient(total, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)

        try:
            return tf.vectorized_map(of_one, given)
        except Exception as error:  # TypeError for the lists a loop over steps keeps, such as an LSTM's; other operations, others
            summary = str(error).strip().partition("\n")[0]
            fallback_log.note(f"gradients of {model.name} are worked out for one example after the other: {summary}")
        return tf.map_fn(of_one, given, fn_output_signature=[tf.TensorSpec(value.shape, value.dtype) for value in values])

    return gradients


def gradient(function, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(function(x))
    return tape.gradient(total, x)


def compiled(function, model):
    return tf.function(function, autograph=False, reduce_retracing=True)


@functools.cache
def compilations():
    traced, original = [], func_graph.FuncGraph.__init__

    def noted(graph, name, *arguments, **keywords):
        traced.append(name)
        original(graph, name, *arguments, **keywords)

    func_graph.FuncGraph.__init__ = noted
    return traced


def synchronize():
    if tf.config.list_logical_devices("GPU"):
        tf.test.experimental.sync_devices()


def devices():
    return [device.name for device in tf.config.list_logical_devices()]


def device_kind():
    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "cpu"


def is_out_of_memory(error):
    return isinstance(error, tf.errors.ResourceExhaustedError)


def out_of_memory():
    return tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


def peak_device_bytes():
    gpus = tf.config.list_logical_devices("GPU")
    return sum(tf.config.experimental.get_memory_info(gpu.name)["peak"] for gpu in gpus) if gpus else None


def configure(deterministic, threads):
    # On a processor without a cost that could be seen (LeNet 8.8 ms a step against 8.6). Keras leaves XLA out, and says
    # nothing, while it is on.
    if deterministic:
        tf.config.experimental.enable_op_determinism()
        # Once: it empties the cache of prepared functions, 80 ms. Keras draws without TensorFlow's own state.
        tf.random.set_seed(0)
    else:
        disable_op_determinism()
    tf.config.experimental.enable_tensor_float_32_execution(not deterministic)
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)


def release_memory():
    """TensorFlow keeps the graphs of steps, whose models are gone: 1 to 2 MB for each `fit`."""
    for graph in [each for each in gc.get_objects() if type(each) is func_graph.FuncGraph]:
        if graph.name in ("one_step_on_data", "step"):  # Keras's and `accelerate_steps`'s
            func_graph.dismantle_func_graph(graph)


def accelerate_steps(model):
    """One function a step, the fetching of its batch within; Keras puts two functions and a loop around each."""
    if is_plain(model):
        model.train_function = tf.function(of_batches(model.train_step), reduce_retracing=True)
        zeros = []

        def reset():
            """Nothing is traced for it, and nothing checked: a variable's `assign` takes as long as a small step."""
            variables = model.metrics_variables
            if len(zeros) != len(variables):  # some are made by the first step
                type(model).reset_metrics(model)
                with tf.init_scope():  # out of the function that may be being traced, whose tensors end with it
                    zeros[:] = [tf.zeros(variable.shape, variable.dtype) for variable in variables]
                return
            for variable, zero in zip(variables, zeros, strict=True):
                tf.raw_ops.AssignVariableOp(resource=variable.value.handle, value=zero)

        plain.shorten_epochs(model, reset)


def is_plain(model):
    return not (model.run_eagerly or model.jit_compile or keras_private.is_distributed(model) or model.steps_per_execution > 1)


def of_batches(function):
    """The function of an iterator's next batch."""

    @tf.autograph.experimental.do_not_convert
    def step(iterator):
        batch = iterator.get_next()  # in which a part that is not there comes as an `Optional`
        return function(keras.tree.map_structure(lambda x: None if isinstance(x, tf.experimental.Optional) else x, batch))

    return step


def evaluation(model, batches):
    if not is_plain(model):
        return plain.evaluation(model, batches, feed)
    held = feed(batches)
    steps = len(held)

    def first(batch):  # in one function with the only step, where there is one
        model.reset_metrics()
        return model.test_step(batch)

    test = tf.function(of_batches(first if steps == 1 else model.test_step), reduce_retracing=True)

    def evaluate():
        if steps > 1:
            model.reset_metrics()
        iterator = iter(held)
        for _ in range(steps):
            logs = test(iterator)
        return {name: float(value) for name, value in logs.items()}

    return evaluate


def fused(optimizer):
    known = isinstance(optimizer, keras.optimizers.Adam) and not optimizer.amsgrad and optimizer.beta_2
    if not known or tf.distribute.has_strategy():
        return optimizer

    # The kernel keeps 1 - beta_2 of each square as single precision has it, 1.3e-5 less than .001, and Keras .001. What this
    # makes of the mean after so many steps alike is put right in the rate and in `epsilon`.
    betas = optimizer.beta_1, optimizer.beta_2
    logarithms = [math.log(np.float32(betas[1])), math.log(betas[1])]

    def update(gradients, variables, learning_rate):
        step = tf.cast(optimizer.iterations + 1, "float32")
        kept = [tf.pow(beta, step) for beta in betas]
        rate = tf.cast(learning_rate, "float32") * tf.sqrt(1 - kept[1]) / (1 - kept[0])
        share = tf.sqrt(tf.math.expm1(step * logarithms[0]) / tf.math.expm1(step * logarithms[1]))
        rate, epsilon = rate * share, optimizer.epsilon * share
        moments = keras_private.adam_moments(optimizer, variables)
        for gradient, variable, *kept_of_it in zip(gradients, variables, *moments, strict=True):
            if isinstance(gradient, tf.IndexedSlices) or not variable.dtype == gradient.dtype == "float32":
                optimizer.update_step(gradient, variable.value, learning_rate)
                continue
            resources = (variable, *kept_of_it)
            tf.raw_ops.ResourceApplyAdam(
                **dict(zip(("var", "m", "v"), (each.value.handle for each in resources), strict=True)),
                beta1_power=0.0,
                beta2_power=0.0,
                lr=rate,
                beta1=betas[0],
                beta2=betas[1],
                epsilon=epsilon,
                grad=gradient,
            )

    keras_private.replace_update(optimizer, lambda plainly: update)
    return optimizer


def feed(batches):
    """`tf.data` gathers the batches in native threads; Keras's own way calls Python for each."""
    constant = batches.constant()
    if constant is not None:
        return Repeated(constant, len(batches))
    arrays = batches.arrays()
    if arrays is None:
        return fetched(batches)
    kept = tf.nest.map_structure(tf.constant, arrays)

    def order(_):
        return tf.ensure_shape(tf.numpy_function(batches.index_table, [], tf.int64), (None, None))

    rows = tf.data.Dataset.from_tensors(0).map(order).unbatch()  # not `from_generator`, see below

    def gather(indices):
        indices = tf.ensure_shape(indices, (batches.batch_size,))
        return tf.nest.map_structure(lambda array: tf.gather(array, indices), kept)

    data = rows.map(gather, num_parallel_calls=2, deterministic=True).prefetch(4)
    return as_written(data.apply(tf.data.experimental.assert_cardinality(len(batches))))


def fetched(batches):
    """Batches that Python makes, a few steps ahead.

    Keras's own way is `from_generator`, whose iterator runs Python once more when it is dropped, while the interpreter's lock
    is held by who drops it: up to half a second lost at the end of every epoch.
    """
    samples = batches.samples() if hasattr(batches, "samples") else [batches[0]]
    example = samples[0]
    flat = [[None if each is None else np.asarray(each) for each in tf.nest.flatten(sample)] for sample in samples]
    there = [index for index, each in enumerate(flat[0]) if each is not None]
    shapes = {index: common_shape([parts[index].shape for parts in flat]) for index in there}
    types = [flat[0][index].dtype for index in there]

    def make(step):
        parts = tf.nest.flatten(batches[int(step)])
        return [np.asarray(parts[index]) for index in there]

    def fetch(step):
        parts = list(flat[0])
        for index, part in zip(there, tf.numpy_function(make, [step], types), strict=True):
            parts[index] = tf.ensure_shape(part, shapes[index])
        return tf.nest.pack_sequence_as(example, parts)

    ahead = getattr(batches, "ahead", 0) or 4
    return as_written(tf.data.Dataset.range(len(batches)).map(fetch).prefetch(ahead))


def common_shape(shapes):
    """The shape all these have in common, `None` where they differ."""
    return [sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes, strict=True)]


class Repeated(tf.data.Dataset):
    """The same batch at each step, from one iterator: to make one takes half a millisecond."""

    def __init__(self, batch, steps):
        self.data = as_written(tf.data.Dataset.from_tensors(batch).repeat())
        super().__init__(self.data._variant_tensor)
        self.steps, self.iterator = steps, None

    def _inputs(self):
        return [self.data]

    @property
    def element_spec(self):
        return self.data.element_spec

    def cardinality(self):
        return tf.constant(self.steps, "int64")

    def __iter__(self):
        self.iterator = self.iterator or super().__iter__()
        return self.iterator


def as_written(data):
    """The data set unoptimised: each epoch makes its iterator anew, which takes 100 ms where it is optimised first."""
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    return data.with_options(options)


@functools.cache
def mirrored_strategy():
    """One for the whole process: `fit` must run under the strategy the model was built under."""
    return tf.distribute.MirroredStrategy()


def data_distribution():
    return mirrored_strategy().scope()


def versions():
    return {"tensorflow": tf.__version__}
