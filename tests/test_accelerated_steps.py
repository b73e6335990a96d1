"""The backend's fast way of taking a step gives the numbers of its plain way."""

import functools

import keras
import numpy as np
import pytest

from apps.common.data.examples import Examples
from apps.common.options.declare import make_config
from apps.common.options.training import Training
from apps.common.training.batches import Batches, InOrder
from apps.common.training.callbacks import Callbacks, Seeds, seed_states, set_seeds
from apps.common.training.optimizers import compile_model
from layers import backend
from layers.augmentation import RandomShift
from layers.regularization import Dropout

OPTIONS = {"schedule": "cosine", "clip_norm": 0.5, "optimizer": "adamw", "weight_decay": 0.01, "l2": 0.001, "epochs": 2}


class Noisy(keras.Sequential):
    """Draws noise by `keras.random` in its loss, which torch seeds from Python at each step."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        noise = keras.random.normal(keras.ops.shape(y_pred), seed=self.layers[0].generator)
        return keras.ops.mean(keras.ops.square(y_pred + noise - keras.ops.cast(y, "float32")[:, None]))


class Deciding(keras.Sequential):
    """Python looks at a value in its loss."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        size = keras.ops.mean(keras.ops.square(y_pred))
        return keras.ops.cond(size > 0.5, lambda: size, lambda: keras.ops.mean(keras.ops.abs(y_pred)))


def examples_of(count):
    generator = np.random.default_rng(0)
    return Examples(generator.normal(size=(count, 8, 8, 1)).astype("float32"), generator.integers(0, 3, count))


def trained(model_class, fast, **options):
    keras.utils.clear_session()
    examples = examples_of(24)
    layers = [
        RandomShift(0.2, seed=1),
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Flatten(),
        Dropout(0.3),
        keras.layers.Dense(3),
    ]
    model = model_class([keras.Input((8, 8, 1)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    own = model_class is not keras.Sequential
    config = make_config(Training, {**OPTIONS, "batch_size": 8, **options})
    compile_model(model, config, examples, loss=None if own else loss, metrics=None if own else ["accuracy"])
    batches = Batches(examples, 8, 0)
    if fast:
        backend.accelerate_steps(model)
    history = model.fit(
        backend.feed(batches),
        epochs=2,
        shuffle=False,
        verbose=0,
        validation_data=examples.take(np.arange(8)),
        callbacks=Callbacks([Seeds(batches, 0)], model, 2),
    ).history
    return model, history


def evaluates_as_keras_does(model):
    states = seed_states(model)
    for batch_size in (24, 10):  # one whole batch, or three, the last one filled up
        batches, ends = InOrder(examples_of(24), batch_size), []
        evaluate = backend.evaluation(model, batches)
        set_seeds(states, 0, 5)
        expected = model.evaluate(batches, verbose=0, return_dict=True)
        ends.append([state.numpy() for state in states])
        for _ in range(2):  # the second time nothing of the first is left
            set_seeds(states, 0, 5)
            found = evaluate()
            ends.append([state.numpy() for state in states])
            assert found.keys() == expected.keys()
            for name, value in found.items():
                np.testing.assert_allclose(value, expected[name], rtol=1e-6, err_msg=name)
        for end in ends[1:]:
            np.testing.assert_array_equal(end, ends[0])


def begins_its_metrics_anew_at_each_epoch(model):
    for again in (False, True):
        if again:
            model.compile("sgd", model.loss, metrics=["sparse_categorical_accuracy"])
        model.fit(*examples_of(24).take(slice(None)), epochs=2, batch_size=24, verbose=0)
        assert float(model.metrics[0].count) == 24  # of the last epoch alone


@pytest.mark.parametrize("model_class", [keras.Sequential, Noisy, Deciding])
def test_weights_and_metrics_are_those_of_the_plain_way(model_class):
    backend.configure()
    plain, expected = trained(model_class, False)
    fast, history = trained(model_class, True)
    assert history.keys() == expected.keys() and "val_loss" in history
    for name in expected:
        np.testing.assert_array_equal(history[name], expected[name], name)
    for ours, theirs in zip(fast.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    evaluates_as_keras_does(plain)
    evaluates_as_keras_does(fast)
    if model_class is keras.Sequential:
        begins_its_metrics_anew_at_each_epoch(fast)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="only torch replays steps")
def test_torch_replays_what_it_can_and_says_what_it_cannot(monkeypatch, capsys):
    from layers.backend import fallback_log

    monkeypatch.setattr(fallback_log, "counts", type(fallback_log.counts)())
    replays = [next(iter(trained(model_class, True)[0].train_function.replays.values())) for model_class in (
        keras.Sequential, Noisy, Deciding
    )]  # fmt: skip
    assert replays[0] is not None
    assert replays[1:] == [None, None]
    said = capsys.readouterr().err.splitlines()
    assert said == list(backend.fallbacks()) and set(backend.fallbacks().values()) == {1}
    assert [line.split(" runs unrecorded")[0] for line in said] == [
        f"a step of {kind} of {name}" for name in ("Noisy", "Deciding") for kind in ("training", "evaluation")
    ]
    assert all(line.endswith(": Python looks at the value of a tensor") for line in said)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="only torch compiles what it has recorded")
def test_torch_compiles_a_step_in_one_piece(monkeypatch):
    torch, graphs = pytest.importorskip("torch"), []

    def compiled(graph, tensors):
        graphs.append(graph)
        return graph.forward

    # Without the making of kernels, which takes longer than all other tests of this file.
    compile_graph = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, dynamic: compile_graph(module, dynamic=dynamic, backend=compiled))
    plain, expected = trained(keras.Sequential, False)
    fast, history = trained(keras.Sequential, True, compile="on")
    for name in expected:
        np.testing.assert_allclose(history[name], expected[name], rtol=1e-5, err_msg=name)
    for ours, theirs in zip(fast.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    training = [graph for graph in graphs if any("convolution_backward" in str(node.target) for node in graph.graph.nodes)]
    assert len(training) == 1
    names = [str(node.target) for node in training[0].graph.nodes]
    assert any("_foreach_sqrt" in name for name in names) and not any("_fused_adam_" in name for name in names)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="only torch replays steps")
@pytest.mark.parametrize("rule", ["sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adadelta"])
def test_torch_replays_the_steps_of_every_optimizer(rule):
    model, _ = trained(keras.Sequential, True, optimizer=rule, weight_decay=0.0)
    assert next(iter(model.train_function.replays.values())) is not None


SGD = functools.partial(keras.optimizers.SGD, momentum=0.9)


@pytest.mark.parametrize("rule", [
    keras.optimizers.Adam, keras.optimizers.AdamW, SGD, functools.partial(SGD, nesterov=True),
    functools.partial(keras.optimizers.SGD), keras.optimizers.Adadelta,
])  # fmt: skip
def test_a_fused_optimizer_takes_the_steps_of_its_plain_form(rule):
    generator = np.random.default_rng(0)
    start = [generator.normal(size=shape).astype("float32") for shape in ((5, 3), (3,))]
    epsilon = {"epsilon": 1e-3} if isinstance(rule, type) else {}
    optimizers = [rule(0.01, weight_decay=0.1, clipnorm=1.0, **epsilon) for _ in range(2)]
    weights = [[keras.Variable(value) for value in start] for _ in optimizers]
    backend.fused(optimizers[1])
    for size in np.geomspace(1, 1e-4, 20):  # gradients that shrink below epsilon
        gradients = [keras.ops.convert_to_tensor((size * generator.normal(size=w.shape)).astype("float32")) for w in start]
        for optimizer, mine in zip(optimizers, weights, strict=True):
            optimizer.apply(gradients, mine)
    for plain, fused in zip(*weights, strict=True):
        np.testing.assert_allclose(fused.numpy(), plain.numpy(), rtol=2e-6, atol=5e-7)
    for plain, fused in zip(*(optimizer.variables for optimizer in optimizers), strict=True):
        np.testing.assert_allclose(fused.numpy(), plain.numpy(), rtol=2e-5, atol=1e-9)


def test_a_fused_optimizer_leaves_double_precision_to_keras():
    results = []
    for made in (keras.optimizers.Adam(0.1), backend.fused(keras.optimizers.Adam(0.1))):
        weights = [keras.Variable(np.array([1.0, -2.0]), dtype="float64")]
        made.beta_1, made.beta_2 = (keras.ops.convert_to_tensor(np.float64(each), dtype="float64") for each in (0.9, 0.999))
        for _ in range(3):
            made.apply([keras.ops.convert_to_tensor(np.array([0.3, 1e-3]), dtype="float64")], weights)
        results.append(weights[0].numpy())
    np.testing.assert_array_equal(*results)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="only torch has one kernel for Adam")
def test_torch_goes_over_the_weights_once():
    model, _ = trained(keras.Sequential, True)
    (replay,) = model.train_function.replays.values()
    names = [str(node.target) for node in replay.module.graph.nodes]
    assert sum("_fused_adam_" in name for name in names) == 1
    assert not any("_foreach_sqrt" in name for name in names)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="only torch has one kernel for Adam")
def test_a_fused_optimizer_can_be_compiled():
    torch = pytest.importorskip("torch")
    optimizer, weights = backend.fused(keras.optimizers.Adam(0.1, epsilon=0.0)), [keras.Variable([1.0, 2.0])]
    optimizer.build(weights)
    with torch.no_grad():
        torch.compile(optimizer.apply, backend="aot_eager")([keras.ops.convert_to_tensor([0.5, -4.0])], weights)
    np.testing.assert_allclose(weights[0].numpy(), [0.9, 2.1], rtol=1e-6)  # the first step is the rate, against the sign
