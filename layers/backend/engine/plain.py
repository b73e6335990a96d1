"""Feeding and stepping as Keras does it: what a backend without a faster way of its own runs."""



import keras

from .. import keras_private


def peak_device_bytes():
    return None


def feed(batches):
    return batches


def evaluation(model, batches, feed=feed):
    held = feed(batches)
    return lambda: model.evaluate(held, verbose=0, return_dict=True)


def accelerate_steps(model):
    pass


def loss_of_example(model):
    """The loss of one example, a function of `(values of the trainable variables, of the others, (x, y, sample_weight))`."""
    variables = [*model.trainable_variables, *model.non_trainable_variables]

    def loss(values, others, example):
        batch = keras.tree.map_structure(lambda part: None if part is None else keras.ops.expand_dims(part, 0), example)
        x, y, sample_weight = batch
        with keras.StatelessScope(state_mapping=list(zip(variables, [*values, *others], strict=True))):
            return model.compute_loss(x, y, model(x, training=True), sample_weight, training=True)

    return loss


def shorten_epochs(model, reset):
    """Leave out what Keras does to the metrics around every epoch, longer than some steps take, and `reset()` does faster."""
    compiled, built = keras_private.compiled_metrics(model), False

    def reset_metrics():
        nonlocal built
        same = keras_private.compiled_metrics(model) is compiled
        if not built or not same:  # before the first step, which makes the variables of metrics, or compiled again since
            type(model).reset_metrics(model)
        if same and (built or model.metrics_variables):  # the first time too: what it compiles belongs to the first epoch
            reset()
        built = True

    model.reset_metrics = reset_metrics
    keras_private.keep_results_of_steps(model)


def fused(optimizer):
    return optimizer


def compiles_when_asked():
    return True
