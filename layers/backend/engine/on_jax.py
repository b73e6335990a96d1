"""JAX: gradients by transformation, steps that XLA compiles, the devices."""

import functools
import os

import jax
import jax.numpy as jnp
import keras
import numpy as np

from ..keras_private import put_value, raw_value
from . import plain
from .ahead import made_ahead


def loss_and_gradients(model, x, y, sample_weight, training):
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    # Kept on the model, so that a second batch is not compiled again.
    compiled = vars(model).setdefault("_loss_and_gradients", {})
    if training not in compiled:

        def compute_loss(trainable, others, x, y, sample_weight):
            values = [*trainable, *others]
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                predictions = model(x, training=training)
                loss = model.compute_loss(x, y, predictions, sample_weight, training=training)
            return loss, predictions

        compiled[training] = jax.jit(jax.value_and_grad(compute_loss, has_aux=True))
    trainable = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    (loss, predictions), gradients = compiled[training](trainable, others, x, y, sample_weight)
    return predictions, float(loss), [np.asarray(gradient) for gradient in gradients]


def per_example_gradients(model, x, y, sample_weight):
    variables = model.trainable_variables
    compiled = vars(model).setdefault("_per_example_gradients", [])  # kept on the model, as above
    if not compiled:

        def gradients(values, others, example):
            grad = jax.grad(plain.loss_of_example(model))
            return jax.vmap(grad, in_axes=(None, None, 0))(values, others, example)

        compiled.append(jax.jit(gradients))
    others = [variable.value for variable in model.non_trainable_variables]
    return compiled[0]([variable.value for variable in variables], others, (x, y, sample_weight))


def gradient(function, x):
    return jax.grad(lambda x: jnp.sum(function(x)))(x)


def compiled(function, model):
    variables = model.variables  # a walk through all layers, so once

    @jax.jit
    def run(values, arguments):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*arguments)

    return lambda *arguments: run([raw_value(variable) for variable in variables], arguments)


@functools.cache
def compilations():
    events = []

    def listen(event, *_, **__):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return events


class Same(keras.utils.PyDataset):
    """One batch at each step, put on the device once."""

    def __init__(self, batch, steps):
        super().__init__()
        self.batch, self.steps = jax.device_put(batch), steps

    def __len__(self):
        return self.steps

    def __getitem__(self, step):
        return self.batch


def feed(batches):
    constant = batches.constant()
    return made_ahead(batches) if constant is None else Same(constant, len(batches))


def accelerate_steps(model):
    if not is_plain(model):
        return
    zeros = {}  # by the number of variables, some of which the first step may make

    def reset():
        """All at once; a variable's `assign` takes a tenth of a millisecond."""
        variables = model.metrics_variables
        if len(variables) not in zeros:
            type(model).reset_metrics(model)
            values = [np.asarray(variable.value) for variable in variables]
            zeros[len(variables)] = jax.jit(lambda: [jnp.asarray(value) for value in values])
        for variable, value in zip(variables, zeros[len(variables)](), strict=True):
            put_value(variable, value)

    plain.shorten_epochs(model, reset)


def is_plain(model):
    return model.jit_compile and not model.run_eagerly and not keras.distribution.distribution()


def evaluation(model, batches):
    if not is_plain(model):
        return plain.evaluation(model, batches, feed)
    held, test = feed(batches), jax.jit(model.test_step)
    parts, zeros = [], []

    def evaluate():
        if not parts:
            model.reset_metrics()
            parts.extend((model.trainable_variables, model.non_trainable_variables))
            zeros.extend(variable.value for variable in model.metrics_variables)
        state = [[variable.value for variable in variables] for variables in parts]
        state.append(zeros)
        for step in range(len(held)):
            logs, state = test(state, held[step])
        for variable, value in zip(parts[1], state[1], strict=True):  # generators have drawn
            if value is not variable.value:
                variable.assign(value)
        return {name: float(value) for name, value in jax.device_get(logs).items()}

    return evaluate


def compiles_when_asked():
    return False  # it always compiles


def synchronize():
    # Work on one device is done in order, so the end of a new small computation is the end of all before it.
    for device in jax.local_devices():
        jax.device_put(0.0, device).block_until_ready()
    jax.effects_barrier()


def devices():
    return [str(device) for device in jax.devices()]


def device_kind():
    return jax.devices()[0].device_kind


def is_out_of_memory(error):
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def out_of_memory():
    return jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")


def peak_device_bytes():
    statistics = [device.memory_stats() for device in jax.local_devices() if device.platform != "cpu"]
    return sum(entry["peak_bytes_in_use"] for entry in statistics if entry) or None


def configure(deterministic, threads):
    flags = os.environ.get("XLA_FLAGS", "")
    if deterministic and "xla_gpu_deterministic_ops" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()
    jax.config.update("jax_default_matmul_precision", "highest" if deterministic else None)
    hide_accelerators_from_tensorflow()


def hide_accelerators_from_tensorflow():
    """Keras imports TensorFlow, where it is installed, to save a model: it must not take the device's memory."""
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")


def data_distribution():
    return keras.distribution.DataParallel().scope()


def versions():
    return {"jax": jax.__version__}
