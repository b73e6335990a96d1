"""What happens while `fit` runs: the order of batches, seeds, stopping, gradient flow, checkpoints, precision."""

import contextlib
import math
import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from apps import image_classification, tabular
from apps.common.app import Metric
from apps.common.data.examples import Examples
from apps.common.errors import UserError
from apps.common.options.declare import make_config
from apps.common.training import run
from apps.common.training.batches import Batches, InOrder, predict_all
from apps.common.training.callbacks import AfterEpoch, EpochRecorder, GradientFlow, KeepBest, Plateau, Seeds
from apps.common.training.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from layers import models
from layers.initialization import initialize


@pytest.fixture(autouse=True)
def float32_again():
    yield
    keras.config.set_dtype_policy("float32")


def classes(count=40, seed=0):
    """Two classes of points around -1 and +1 in four dimensions."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    return Examples((generator.normal(size=(count, 4)) + 2 * labels[:, None] - 1).astype("float32"), labels)


def small_model(seed=0, **options):
    keras.utils.clear_session(free_memory=False)
    model = models.mlp((4,), 2, hidden_dims=(6,), **options)
    initialize(model, seed)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, weighted_metrics=["accuracy"])
    return model


def numbered(count):
    return Examples(np.arange(count), np.arange(count) * 10)


def test_batches_hold_every_example_once_an_epoch_and_the_last_is_filled():
    batches = Batches(numbered(10), 4, seed=3)
    drawn = [batches[step] for step in range(len(batches))]
    assert [len(x) for x, _ in drawn] == [4, 4, 4]
    x = np.concatenate([x for x, _ in drawn])
    assert sorted(x[:10]) == list(range(10)) and list(x[10:]) == list(x[:2])
    assert all((y == 10 * x).all() for x, y in drawn)


def test_the_order_of_batches_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        batches = Batches(numbered(20), 20, seed)
        for earlier in range(epoch + 1):
            batches.set_epoch(earlier)
        return list(batches[0][0])

    one = Batches(numbered(20), 20, 5)
    one.set_epoch(3)
    assert order(5, 3) == list(one[0][0]) == list(np.random.default_rng([5, 1, 3]).permutation(20))
    assert order(5, 3) != order(5, 2) and order(5, 3) != order(6, 3)


def test_the_weights_of_a_batch_keep_their_shares_and_have_mean_one():
    batches = Batches(Examples(np.arange(6), np.arange(6), np.arange(6) / 10), 3, seed=0)
    x, _, weight = batches[1]
    np.testing.assert_allclose(weight, 3 * x / x.sum(), rtol=1e-6)


@pytest.mark.parametrize("count", [7, 8, 3])
def test_padding_the_last_batch_leaves_validation_exactly_the_mean_over_the_examples(count):
    examples, model = classes(count), small_model()
    logits = predict_all(model, examples.x)
    each = np.log(np.exp(logits).sum(1)) - logits[np.arange(count), examples.y]
    found = model.evaluate(InOrder(examples, 4), return_dict=True, verbose=0)
    assert found["loss"] == pytest.approx(each.mean(), rel=1e-5)
    assert found["accuracy"] == pytest.approx((logits.argmax(1) == examples.y).mean(), rel=1e-6)


def test_every_row_is_predicted_whatever_the_batch_size():
    model, x = small_model(), classes(11).x
    whole = predict_all(model, x)
    assert whole.shape == (11, 2)
    np.testing.assert_allclose(predict_all(model, x, batch_size=4), whole, rtol=1e-5, atol=1e-6)


def test_dropout_follows_from_seed_and_epoch_alone():
    model, x = small_model(dropout=0.5), classes().x

    def output(seed, epoch):
        seeds = Seeds(SimpleNamespace(set_epoch=lambda epoch: None), seed)
        seeds.set_model(model)
        seeds.on_epoch_begin(epoch)
        return keras.ops.convert_to_numpy(model(x, training=True))

    first = output(1, 4)
    assert not np.array_equal(output(1, 5), first), "another epoch drops other units"
    assert not np.array_equal(output(2, 4), first), "another seed drops other units"
    np.testing.assert_array_equal(output(1, 4), first)


LOSS = Metric("loss", higher_is_better=False)


def after_epochs(callback, values, model=None):
    """The callback after epochs that ended with these values of `val_loss`."""
    callback.set_model(model or SimpleNamespace(stop_training=False, get_weights=lambda: []))
    for epoch, value in enumerate(values):
        callback.on_epoch_end(epoch, {"val_loss": value})
    return callback


def test_early_stopping_waits_for_its_patience_and_gives_the_best_weights_back():
    model, stopper = small_model(), KeepBest(LOSS, patience=2)
    stopper.set_model(model)
    for epoch, value in enumerate([0.9, 0.5, 0.7]):
        model.set_weights([np.full(weight.shape, epoch, "float32") for weight in model.get_weights()])
        stopper.on_epoch_end(epoch, {"val_loss": value})
        assert not model.stop_training
    stopper.on_epoch_end(3, {"val_loss": 0.5})
    assert model.stop_training, "an equal value is no progress"
    stopper.restore(model)
    assert all((weight == 1).all() for weight in model.get_weights())


def test_of_equally_good_epochs_the_one_of_the_least_loss_is_kept_and_patience_does_not_wait_for_it():
    stopper = KeepBest(Metric("accuracy"), patience=3)
    stopper.set_model(SimpleNamespace(stop_training=False, get_weights=lambda: []))
    for epoch, (accuracy, loss) in enumerate([(0.5, 0.9), (0.9, 0.8), (0.9, 0.3), (0.9, 0.5)]):
        stopper.on_epoch_end(epoch, {"val_accuracy": accuracy, "val_loss": loss})
    assert stopper.best_epoch == 2 and not stopper.stopped
    stopper.on_epoch_end(4, {"val_accuracy": 0.9, "val_loss": 0.4})
    assert stopper.stopped, "a lesser loss alone is no progress"
    again = KeepBest(Metric("accuracy"), patience=3)
    again.set_state(*stopper.get_state())
    assert (again.best_epoch, again.loss, again.waited, again.stopped) == (2, 0.3, 3, True)


def test_early_stopping_of_a_metric_that_should_rise():
    stopper = KeepBest(Metric("loss"), patience=1)
    assert not after_epochs(stopper, [0.1, 0.2, 0.3]).model.stop_training
    assert after_epochs(KeepBest(Metric("loss"), 1), [0.3, 0.2]).model.stop_training


def test_early_stopping_goes_on_from_its_state_as_if_never_interrupted():
    model = small_model()
    before = after_epochs(KeepBest(LOSS, 3), [0.5, 0.4, 0.6], model)
    after = KeepBest(LOSS, 3)
    after.set_state(*before.get_state())
    after.set_model(model)
    after.on_epoch_end(3, {"val_loss": 0.45})
    assert not model.stop_training
    after.on_epoch_end(4, {"val_loss": 0.41})
    assert model.stop_training and (after.best, after.best_epoch) == (0.4, 1)
    again = KeepBest(LOSS, 3)
    again.set_state(*after.get_state())
    assert again.stopped and not before.stopped, "a stopped run that is resumed trains no further"


def test_epochs_that_are_not_judged_are_neither_the_best_nor_waited_for():
    judged = iter([0.9, None, None, 0.5, None, None, 0.6, None, 0.7])
    look = AfterEpoch(lambda *_: None if (value := next(judged)) is None else {"val_quality": value}, None)
    quality = Metric("quality", higher_is_better=False)
    rate = keras.Variable(0.8)
    model = SimpleNamespace(stop_training=False, get_weights=lambda: [], optimizer=SimpleNamespace(learning_rate=rate))
    stopper, plateau = KeepBest(quality, patience=2), Plateau(quality, 0.5, 2)
    for epoch in range(9):
        assert not model.stop_training and float(rate) == pytest.approx(0.8)
        logs = {"loss": 1.0, "val_loss": 1.0 - epoch / 10}  # falls all the time, so that a tie would go to a later epoch
        for callback in (look, stopper, plateau):
            callback.set_model(model)
            callback.on_epoch_end(epoch, logs)
    assert stopper.best_epoch == 3 and stopper.stopped and model.stop_training, "patience counts looks"
    assert float(rate) == pytest.approx(0.4)


def rate_after(values, **options):
    rate = keras.Variable(0.8)
    model = SimpleNamespace(optimizer=SimpleNamespace(learning_rate=rate))
    return after_epochs(Plateau(LOSS, **options), values, model), rate


def test_plateau_lowers_the_rate_after_its_patience_without_progress():
    options = {"factor": 0.5, "patience": 2}
    assert float(rate_after([0.5, 0.6], **options)[1]) == pytest.approx(0.8)
    assert float(rate_after([0.5, 0.6, 0.5], **options)[1]) == pytest.approx(0.4)
    assert float(rate_after([0.5, 0.6, 0.4, 0.6, 0.6, 0.6], **options)[1]) == pytest.approx(0.4), "progress starts the count anew"
    assert float(rate_after([0.5] * 5, **options)[1]) == pytest.approx(0.2)


def test_plateau_goes_on_from_its_state_as_if_never_interrupted():
    before, _ = rate_after([0.5, 0.6], factor=0.5, patience=2)
    after, rate = rate_after([], factor=0.5, patience=2)
    after.set_state(*before.get_state())
    after.on_epoch_end(2, {"val_loss": 0.55})
    assert float(rate) == pytest.approx(0.4)


def gradient_norms(**options):
    """Norm of the gradient at the first and the last kernel of a deep MLP on the digits, as the app builds it."""
    given = {"model": "mlp", "hidden_dims": (32,) * 12, "dropout": 0.0, "batch_norm": False, "seed": 1, **options}
    config = make_config(image_classification.Config, given)
    data = image_classification.load_data(config)
    flow = GradientFlow(data.train.take(np.arange(64)))
    flow.set_model(run.make_model(image_classification, config, data))
    flow.on_epoch_end(0)
    norms = list(flow.norms[0].values())
    assert len(norms) == 13
    return norms[0], norms[-1]


def test_a_deep_sigmoid_network_shows_its_vanishing_gradient():
    first, last = gradient_norms(activation="sigmoid")
    assert first < 1e-4 * last


@pytest.mark.parametrize(
    "cure",
    [
        {"activation": "relu", "batch_norm": True},
        {"activation": "relu", "initializer": "he_normal"},
        {"activation": "sigmoid", "skip": True},
    ],
    ids=lambda cure: "-".join(cure),
)
def test_batch_norm_he_weights_or_skip_connections_cure_it(cure):
    first, last = gradient_norms(**cure)
    assert first > 0.05 * last


def test_looking_at_the_gradients_changes_nothing_in_the_model():
    model, examples = small_model(batch_norm=True, dropout=0.5), classes()
    before = [keras.ops.convert_to_numpy(variable) for variable in model.variables]
    flow = GradientFlow(examples.take(np.arange(8)))
    flow.set_model(model)
    flow.on_epoch_end(0)
    for variable, kept in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), kept, err_msg=variable.path)


def tabular_model(**options):
    config = make_config(tabular.Config, {"hidden_dims": (8,), "epochs": 6, "batch_size": 32, "learning_rate": 0.02, **options})
    data = tabular.load_data(config)
    return run.make_model(tabular, config, data), data, config


def losses(model, data, config):
    batches = Batches(data.train, config.batch_size, config.seed)
    seeds = Seeds(batches, config.seed)
    return model.fit(batches, epochs=config.epochs, shuffle=False, verbose=0, callbacks=[seeds]).history["loss"]


def test_half_precision_computes_in_bfloat16_keeps_float32_weights_and_learns():
    model, data, config = tabular_model(precision="mixed_bfloat16")
    policies = {layer.compute_dtype for layer in model.layers if layer.weights}
    assert "bfloat16" in policies and {weight.dtype for weight in model.trainable_weights} == {"float32"}
    found = losses(model, data, config)
    assert found[-1] < 0.7 * found[0]


def test_the_same_seed_gives_the_same_losses_and_another_seed_others():
    first, again, other = (losses(*tabular_model(seed=seed, epochs=2)) for seed in (1, 1, 2))
    assert first == again != other


def test_data_distribution_trains_to_the_same_losses_or_says_why_not():
    try:
        shared = tabular_model(distribute="data", epochs=2)
    except UserError as error:
        assert keras.backend.backend() == "torch" and "no data distribution" in str(error)
        return
    np.testing.assert_allclose(losses(*shared), losses(*tabular_model(epochs=2)), rtol=1e-5)


def trained(epochs, folder, *, start=None, log=None, **options):
    """A model after this many epochs, gone on from the checkpoints in `start` where it is given; `log` gets what is tracked."""
    model, examples = small_model(dropout=0.3), classes()
    model.optimizer.build(model.trainable_variables)
    stopper = KeepBest(LOSS, 9)
    done, history = load_checkpoint(start, model, [stopper], print) if start else (0, {})
    record = SimpleNamespace(checkpoints=folder, update=lambda **changes: None)
    log = [] if log is None else log
    tracker = SimpleNamespace(epochs=log.append)
    recorder = EpochRecorder(record, tracker, [stopper], history, epochs=epochs, **{"every": 1, **options})
    batches = Batches(examples, 8, seed=0)
    model.fit(
        batches, epochs=epochs, initial_epoch=done, validation_data=InOrder(examples, 8), shuffle=False, verbose=0,
        callbacks=[Seeds(batches, 0), stopper, recorder],
    )  # fmt: skip
    return model, history


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory):
    """Checkpoints of a run of two epochs."""
    folder = tmp_path_factory.mktemp("two-epochs")
    trained(2, folder)
    return folder


def test_a_run_gone_on_from_its_checkpoint_ends_with_the_very_same_weights(two_epochs, tmp_path):
    whole, history = trained(4, tmp_path / "whole")
    resumed, again = trained(4, tmp_path / "rest", start=two_epochs)
    for expected, found in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert again["loss"] == history["loss"] and len(history["loss"]) == 4


def test_two_checkpoints_are_kept_one_every_so_many_epochs_and_one_at_the_end(tmp_path):
    trained(5, tmp_path, every=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["epoch-00005", "epoch-00004"]


def test_checkpoints_that_are_left_to_us_take_a_thousandth_of_the_time(tmp_path):
    trained(5, tmp_path, every=0)
    assert [path.name for path in checkpoints(tmp_path)] == ["epoch-00005"]
    recorder = EpochRecorder(None, None, [], {}, epochs=9, every=0)
    recorder.kept, recorder.keeping = 100.0, 0.02
    assert not recorder.is_due(3, 119.9) and recorder.is_due(3, 120.1)


def test_epochs_of_milliseconds_are_recorded_together_and_before_a_checkpoint_that_has_them_behind_it(tmp_path, monkeypatch):
    log = []
    monkeypatch.setattr("apps.common.training.callbacks.SOON", 60.0)
    monkeypatch.setattr("apps.common.training.callbacks.save_checkpoint", lambda *arguments: log.append("kept"))
    trained(5, tmp_path, log=log, every=4, quiet=True)
    assert [each if each == "kept" else [step for step, _, _ in each] for each in log] == [[1], [2, 3, 4], "kept", [5], "kept"]
    monkeypatch.setattr("apps.common.training.callbacks.SOON", 0.0)
    log.clear()
    trained(3, tmp_path, log=log, every=3)
    assert [len(each) for each in log if each != "kept"] == [1, 1, 1]


def test_a_curve_of_very_many_epochs_has_each_epoch_in_the_history_and_some_in_mlflow(tmp_path, monkeypatch):
    monkeypatch.setattr("apps.common.training.callbacks.POINTS", 2)
    log = []
    _, history = trained(9, tmp_path, log=log, every=9, steady=True)
    tracked = {step: values for ended in log for step, _, values in ended}
    assert list(tracked) == [1, 2, 3, 4, 6, 8, 9] and len(history["loss"]) == 9
    assert tracked[6]["loss"] == history["loss"][5] and tracked[6]["learning_rate"] == pytest.approx(0.01)


@pytest.mark.parametrize("damage", ["changed", "cut", "no arrays", "no state"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(two_epochs, tmp_path, damage):
    shutil.copytree(two_epochs, tmp_path, dirs_exist_ok=True)
    newest, _ = checkpoints(tmp_path)
    content = (newest / "arrays.npz").read_bytes()
    if damage == "changed":
        (newest / "arrays.npz").write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    elif damage == "cut":
        (newest / "arrays.npz").write_bytes(content[: len(content) // 2])
    else:
        (newest / {"no arrays": "arrays.npz", "no state": "state.json"}[damage]).unlink()
    said, model = [], small_model(dropout=0.3)
    model.optimizer.build(model.trainable_variables)
    done, history = load_checkpoint(tmp_path, model, [KeepBest(LOSS, 9)], said.append)
    assert (done, len(history["loss"])) == (1, 1)
    assert len(said) == 1 and "epoch-00002 is damaged" in said[0]


def test_a_checkpoint_of_another_model_is_refused(two_epochs):
    other = models.mlp((4,), 2, hidden_dims=(7,))
    other.compile("adam", "mse")
    other.optimizer.build(other.trainable_variables)
    with pytest.raises(UserError, match="do not fit this model"):
        load_checkpoint(two_epochs, other, [], print)


def test_a_kill_while_a_checkpoint_is_written_leaves_the_old_ones(tmp_path, monkeypatch):
    model = small_model()
    model.optimizer.build(model.trainable_variables)
    save_checkpoint(tmp_path, model, 1, {}, [])

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("apps.common.training.checkpoint.write_json", killed)
    with contextlib.suppress(KeyboardInterrupt):
        save_checkpoint(tmp_path, model, 2, {}, [])
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-00001"]


def test_an_epoch_whose_loss_is_not_finite_leaves_no_checkpoint(tmp_path):
    model = small_model()
    recorder = EpochRecorder(SimpleNamespace(checkpoints=tmp_path), None, [], {}, epochs=3, every=1)
    recorder.set_model(model)
    with pytest.raises(UserError, match="loss became nan in epoch 2"):
        recorder.on_epoch_end(1, {"loss": math.nan})
    assert not checkpoints(tmp_path)
