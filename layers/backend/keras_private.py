"""Every private name of Keras that is touched, each with the reason; as of Keras 3.15.1.

A new release of Keras that renames one fails in `tests/test_keras_private.py`, which calls them all.
"""

import keras


def raw_value(variable):
    """The tensor a variable holds; `variable.value` looks for a scope and a cast first, for each weight at each step."""
    return variable._value


def put_value(variable, value):
    """Have a variable hold another tensor of its shape and type; its `assign` converts and checks, a tenth of a millisecond."""
    variable._value = value


def all_layers(model, include_self=True):
    """Every layer within a model, at any depth; `model.layers` has those at the top alone."""
    return list(model._flatten_layers(include_self=include_self))


def own_weights(layer):
    """The variables a layer made itself; its public lists have those of the layers within it too."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def compiled_metrics(model):
    """An object that each `compile` with metrics makes anew, so that it tells whether a model was compiled again."""
    return model._compile_metrics


def keep_results_of_steps(model):
    """Have `fit` take an epoch's metrics from its last step, which has worked them out; Keras works them out again."""
    model._get_metrics_result_or_logs = dict


def is_distributed(model):
    """Whether a TensorFlow strategy shares the model's batches out; there is no public name for it."""
    return bool(model._distribute_strategy)


def adam_moments(optimizer, variables):
    """Adam's running means of the gradients and of their squares, in the order of `variables`: two lists of variables."""
    indices = [optimizer._get_variable_index(variable) for variable in variables]
    return [optimizer._momentums[index] for index in indices], [optimizer._velocities[index] for index in indices]


def replace_update(optimizer, make):
    """Put `make(Keras's own update)` in the place of what updates all weights: `(gradients, variables, learning_rate)`.

    Decay, clipping and averages, which Keras does around it, stay. On torch the one is within the other, and Keras's own
    `update_step` sees one variable at a time.
    """
    name = "_parallel_update_step" if hasattr(optimizer, "_parallel_update_step") else "_backend_update_step"
    setattr(optimizer, name, make(getattr(optimizer, name)))


def batches_seen(optimizer):
    """The variable that counts batches; the public `iterations` counts updates, where several batches make one."""
    return optimizer._iterations


def weight_averages(optimizer):
    """The moving averages of the weights, `None` for a weight that has none."""
    return optimizer._model_variables_moving_average


def replace_average_update(optimizer, update):
    """Put a function of the variables in the place of what moves their averages."""
    optimizer._update_model_variables_moving_average = update


def run_graph(model, inputs, call):
    """Run a functional model with `call(layer)` in the place of each layer: a decoder runs one token through it."""
    return model._run_through_graph(inputs, call)


def autocast(dtype):
    """The scope in which variables are read in `dtype`, as Keras makes it around a layer's `call`."""
    from keras.src.backend import AutocastScope

    return AutocastScope(dtype)


def allow_double_precision():
    """Keras brings every result of its operations back to single precision on JAX and torch: not from here on."""
    from keras.src.backend.common import dtypes

    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
    keras.config.set_floatx("float64")
