"""What a backend computes for each case of a file of cases, and how far two backends lie apart.

Every measurement starts from weights and batches made by NumPy. A process (`python -m bench.parity STAGE CASES FOLDER ...`)
measures on one backend and writes files; others read them. CASES is a Python file whose `CASES` maps names to what is built.
"""

import importlib.util
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apps.common.errors import UserError, nearest
from apps.common.files import write_json
from apps.common.options.backends import choose, prepare

BACKENDS = ("tensorflow", "jax", "torch")
QUANTITIES = ("outputs", "loss", "gradients", "weights")
STEPS, CHECKPOINT_AT = 10, 5


@dataclass(frozen=True)
class Tolerance:
    """How far two backends may lie apart, relative to the largest value, and why.

    Args:
        forward: Of the outputs, the loss, and the predictions of a bundle.
        backward: Of the gradients, the weights after ten steps, and those of a run gone on with elsewhere.
        reason: Where the difference comes from.
    """

    forward: float
    backward: float
    reason: str


# Single precision keeps 6e-8 of a number. In double precision, 1e-16, a difference that is rounding all but vanishes.
TOLERANCES = {
    "arithmetic": Tolerance(2e-6, 1e-5, "sums of up to a thousand products, added in another order"),
    "convolution": Tolerance(
        5e-6, 2e-5, "convolutions as matrix products or otherwise, whichever a library picks for the shape",
    ),
    "normalised": Tolerance(
        5e-6, 2e-4, "a batch norm divides by the deviation of a few values; a stack of them magnifies what rounding there was",
    ),
    "recurrent": Tolerance(
        2e-6, 1e-5, "each step adds its rounding to the state; fused cells have a tanh of their own",
    ),
    "attention": Tolerance(
        5e-6, 2e-5, "exponentials and their sum, taken at once or block by block",
    ),
    "graph": Tolerance(
        2e-6, 2e-5, "the sum over neighbours is added in whatever order the processor takes them",
    ),
}  # fmt: skip
# Whose bundles and checkpoints the tests exchange: one of each family.
EXCHANGED = ("tabular_mlp", "lenet5", "small_cnn", "lstm_language_model", "gpt", "gat")
DOUBLE = 1e-9  # what may be left in double precision


def allowed(family, quantity):
    """The tolerance of a family for one quantity."""
    tolerance = TOLERANCES[family]
    return tolerance.forward if quantity in ("outputs", "loss", "predicts") else tolerance.backward


def load_cases(path):
    """`CASES` of a Python file, which is imported by its own name, once.

    Raises:
        UserError: There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: expected the Python file of the cases to compare; start where it is, or give its path")
    if path.stem not in sys.modules:
        specification = importlib.util.spec_from_file_location(path.stem, path)
        sys.modules[path.stem] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(sys.modules[path.stem])
    return sys.modules[path.stem].CASES


def chosen_cases(cases, only=""):
    """The cases whose name holds `only`.

    Raises:
        UserError: There is none.
    """
    chosen = {name: case for name, case in cases.items() if only in name}
    if not chosen:
        raise UserError(f"--only {only}: no case is called so. {nearest(only, cases)}")
    return chosen


def prepared(case):
    """The compiled model of a case, its weights and seeds those of every backend, and its targets."""
    import keras

    import layers
    from apps.common.training.callbacks import seed_states, set_seeds
    from layers.initialization import undrawn

    with undrawn():
        model = case.build()
    layers.initialize(model, seed=0)
    model.compile(adam(), case.loss)
    model.optimizer.build(model.trainable_variables)
    exact(model.optimizer)
    set_seeds(seed_states(model), 0, 0)
    targets = case.targets
    if targets is None and case.loss is not None:
        shapes = [(len(keras.tree.flatten(case.inputs)[0]), *output.shape[1:]) for output in model.outputs]
        targets = [np.random.default_rng([3, *shape]).normal(size=shape).astype("float32") for shape in shapes]
        targets = targets[0] if len(targets) == 1 else targets
    return model, targets


def adam():
    """Adam whose epsilon is large: with the usual one a weight whose gradient is zero but for rounding (a bias before a
    batch norm) would move by the whole learning rate, in another direction on each backend."""
    import keras

    from layers import backend

    return backend.fused(keras.optimizers.Adam(0.01, epsilon=1e-3))


def first_gradients(model):
    """The gradients of the first step, from what Adam keeps of them: m = (1 - beta_1) g."""
    from layers.backend import keras_private

    means, _ = keras_private.adam_moments(model.optimizer, model.trainable_variables)
    return [each / (1 - float(model.optimizer.beta_1)) for each in as_arrays(means)]


def train(model, case, targets, steps):
    """`steps` steps on the case's one batch; the loss and the seconds of each."""
    losses, seconds = [], []
    for _ in range(steps):
        begin = time.perf_counter()
        model.reset_metrics()
        losses.append(float(model.train_on_batch(case.inputs, targets, case.weights, return_dict=True)["loss"]))
        seconds.append(time.perf_counter() - begin)
    return losses, seconds


def as_arrays(values):
    import keras

    return [np.asarray(keras.ops.convert_to_numpy(each)) for each in keras.tree.flatten(values)]


def floating_weights(model):
    import keras

    return [each for each in model.weights if "float" in keras.backend.standardize_dtype(each.dtype)]


def outputs_of(model, inputs):
    """What a model predicts, and what its generator makes of the same latent vectors, if it has one: a list of arrays."""
    import keras

    outputs = as_arrays(model.predict_on_batch(inputs))
    if hasattr(model, "generator"):
        size = len(keras.tree.flatten(inputs)[0])
        latent = keras.tree.map_structure(lambda symbol: drawn(size, symbol), model.generator.input)
        outputs += as_arrays(model.generator.predict_on_batch(latent))
    return outputs


def drawn(size, symbol):
    """A batch for a symbolic input: normal numbers, or classes, of which the models of `CASES` have at least two."""
    generator, shape = np.random.default_rng(4), (size, *symbol.shape[1:])
    if "int" in symbol.dtype:
        return generator.integers(0, 2, shape).astype("int32")
    return generator.normal(size=shape).astype("float32")


def measure(case, folder=None):
    """Build, predict and train ten steps from weights that are the same on every backend.

    Args:
        case: A `Case`.
        folder: Where the checkpoint after five steps and the bundle after ten go, for the other backends; `None` for neither.
    Returns:
        The trained model, and a dict: `outputs` (before training), `loss` (one a step), `gradients` (of the
        first step), `weights` and `predictions` (after the last), each a list of arrays; `paths`, the names of the
        gradients and of the weights; `milliseconds`, the median of a later step.
    """
    from apps.common.training.callbacks import seed_states, set_seeds

    model, targets = prepared(case)
    outputs = outputs_of(model, case.inputs)
    losses, seconds = train(model, case, targets, 1)
    gradients = first_gradients(model)
    for steps in (CHECKPOINT_AT - 1, STEPS - CHECKPOINT_AT):
        more = train(model, case, targets, steps)
        losses, seconds = losses + more[0], seconds + more[1]
        if folder and len(losses) == CHECKPOINT_AT:
            from apps.common.training.checkpoint import save_checkpoint

            save_checkpoint(Path(folder, "checkpoints"), model, CHECKPOINT_AT, {"loss": losses}, [])
        set_seeds(seed_states(model), 0, 1)  # as at the start of an epoch
    weights = floating_weights(model)
    measurement = {
        "outputs": outputs,
        "loss": [np.array(losses)],
        "gradients": gradients,
        "weights": as_arrays(weights),
        "predictions": as_arrays(model.predict_on_batch(case.inputs)),
        "paths": {
            "gradients": [each.path for each in model.trainable_variables],
            "weights": [each.path for each in weights],
        },
        "milliseconds": float(np.median(seconds[1:]) * 1e3),
    }
    if folder:
        from apps.common.bundles.bundle import save_bundle

        record = {"task": "case", "options": {}, "about": {}, "metrics": {}, "versions": {}}
        save_bundle(Path(folder, "bundle"), model, record, {})
    return model, measurement


def save(folder, backend, name, measurement):
    """Write one measurement to `folder/backend/name.npz`."""
    path = Path(folder, backend, f"{name}.npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {key: np.array(json.dumps(measurement[key])) for key in ("milliseconds", "paths")}
    for quantity in (*QUANTITIES, "predictions"):
        arrays |= {f"{quantity}.{index:04d}": array for index, array in enumerate(measurement[quantity])}
    np.savez(path, **arrays)


def load(folder, backend, name):
    """One measurement as `measure` returned it, or `None` if there is none."""
    path = Path(folder, backend, f"{name}.npz")
    if not path.exists():
        return None
    with np.load(path) as file:
        quantities = {}
        for quantity in (*QUANTITIES, "predictions"):
            quantities[quantity] = [file[key] for key in sorted(file) if key.startswith(f"{quantity}.")]
        return quantities | {key: json.loads(str(file[key])) for key in ("milliseconds", "paths")}


def _largest(array):
    return float(np.abs(array).max()) if array.size else 0.0


def differences(left, right):
    """For each two arrays the largest difference, relative to the largest value among them.

    Never relative to less than a hundredth of the largest value of all: a gradient that is zero but for rounding is zero.
    """
    if [array.shape for array in left] != [array.shape for array in right]:
        return [np.inf]
    largest = [max(_largest(a), _largest(b)) for a, b in zip(left, right, strict=True)]
    floor = max([1e-3, *largest]) / 100
    apart = [_largest(a.astype("float64") - b) for a, b in zip(left, right, strict=True)]
    return [np.inf if np.isnan(far) else far / max(floor, size) for far, size in zip(apart, largest, strict=True)]


def difference(left, right):
    """The largest of `differences`."""
    return max(differences(left, right), default=0.0)


def exchange(folder, name, case, writers, own):
    """Predict with the bundle each backend wrote, and go on with each other's checkpoint, on the running backend.

    Returns: `{"predicts": {writer: difference from its own predictions}, "continues": {writer: difference of the
        weights after ten steps from its own}}`.
    """
    from apps.common.bundles.bundle import load_model, open_bundle
    from apps.common.training.callbacks import seed_states, set_seeds
    from apps.common.training.checkpoint import load_checkpoint

    found = {"predicts": {}, "continues": {}}
    model, targets = None, None
    for writer in writers:
        expected, place = load(folder, writer, name), Path(folder, writer, name)
        loaded = load_model(open_bundle(place / "bundle"))
        found["predicts"][writer] = difference(as_arrays(loaded.predict_on_batch(case.inputs)), expected["predictions"])
        if writer == own:
            continue
        if model is None:
            model, targets = prepared(case)
        load_checkpoint(place / "checkpoints", model, [], print)
        set_seeds(seed_states(model), 0, 1)
        train(model, case, targets, STEPS - CHECKPOINT_AT)
        found["continues"][writer] = difference(as_arrays(floating_weights(model)), expected["weights"])
    return found


def layer_outputs(model, inputs, training):
    """What every layer gives, in the order they are called, parts within a layer before the layer: `[(path, array)]`."""
    found = []

    def watch(layer):
        call = layer.call

        def watched(*arguments, **options):
            outputs = call(*arguments, **options)
            found.extend((layer.path or layer.name, array) for array in as_arrays(outputs))
            return outputs

        layer.call = watched

    from layers.backend import keras_private

    for layer in keras_private.all_layers(model, include_self=False):
        watch(layer)
    model(inputs, training=training)
    return found


def load_trace(path):
    """The `layer_outputs` that the stage `trace` wrote."""
    with np.load(path) as file:
        return [(key.partition(" ")[2].replace("|", "/"), file[key]) for key in sorted(file)]


def first_difference(left, right, tolerance):
    """The first layer of two `layer_outputs` whose outputs differ by more than `tolerance`: `(path, difference)`, or `None`."""
    for (path, a), (_, b) in zip(left, right, strict=True):
        if (far := difference([a], [b])) > tolerance:
            return path, far
    return None


def where_gradients_part(left, right, tolerance):
    """The weight nearest the loss whose gradient differs, of two measurements: `(path, difference)`, or `None`.

    A backward pass begins at the last layer, so the last one that differs is the first that went wrong.
    """
    far = differences(left["gradients"], right["gradients"])
    beyond = [index for index, value in enumerate(far) if value > tolerance]
    return (left["paths"]["gradients"][beyond[-1]], far[beyond[-1]]) if beyond else None


def in_double_precision():
    """Compute and keep weights in float64 from here on (JAX needs `JAX_ENABLE_X64=1` in its environment)."""
    import keras

    from layers.backend import keras_private

    keras_private.allow_double_precision()
    keras.config.set_dtype_policy("float64")


def exact(optimizer):
    """Adam's shares in double precision: Keras makes a Python number single before it is cast (0.999 is off by 2e-8)."""
    import keras

    for name in ("beta_1", "beta_2"):
        if keras.config.floatx() == "float64" and hasattr(optimizer, name):
            setattr(optimizer, name, keras.ops.convert_to_tensor(np.float64(getattr(optimizer, name)), dtype="float64"))


def main(stage, cases_file, folder, only="", *writers):
    """One stage on the running backend: `measure`, `double`, `exchange` or `trace`."""
    backend = choose()
    prepare(backend)
    if stage == "double":
        in_double_precision()
    exchanged, cases = {}, load_cases(cases_file)
    named = stage in ("double", "trace")
    chosen = {name: cases[name] for name in only.split(",")} if named else chosen_cases(cases, only)
    for name, case in chosen.items():
        if stage == "measure":
            save(folder, backend, name, measure(case, Path(folder, backend, name))[1])
        elif stage == "double":
            try:
                save(folder, f"{backend}-double", name, measure(case)[1])
            except Exception as error:  # what a library cannot compute in double precision is left out of the table
                print(f"{name} in double precision on {backend}: {str(error).strip()[:300]}", file=sys.stderr)
        elif stage == "exchange":
            exchanged[name] = exchange(folder, name, case, writers, backend)
        elif stage == "trace":
            outputs = layer_outputs(prepared(case)[0], case.inputs, training=True)
            arrays = {f"{index:04d} {path}": array for index, (path, array) in enumerate(outputs)}
            np.savez(Path(folder, backend, f"{name}.trace.npz"), **{key.replace("/", "|"): a for key, a in arrays.items()})
    if stage == "exchange":
        write_json(Path(folder, backend, "exchange.json"), exchanged)


if __name__ == "__main__":
    main(*sys.argv[1:])
