"""Batches of several shapes, and batches made ahead of their step."""

import threading
import time

import keras
import numpy as np
import pytest

import layers
from layers import backend

LENGTHS = (4, 8, 4, 8)


class Sequences(keras.utils.PyDataset):
    """Batches of token ids of several lengths, with a mask; the target is the first token."""

    ahead = 0

    def __init__(self, lengths=LENGTHS, batch_size=2):
        super().__init__()
        self.lengths, self.batch_size = lengths, batch_size
        self.made, self.delay = [], 0.0

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, step):
        time.sleep(self.delay)
        self.made.append(step)
        generator = np.random.default_rng(step)
        tokens = generator.integers(0, 5, (self.batch_size, self.lengths[step])).astype("int32")
        x = {"tokens": tokens, "real": np.ones(tokens.shape, "float32")}
        return x, tokens[:, 0], np.ones(self.batch_size, "float32")

    def samples(self):
        return [self[self.lengths.index(length)] for length in sorted(set(self.lengths))]

    def arrays(self):
        return None

    def constant(self):
        return None


def reader():
    """The first token's class from an embedding, an LSTM and an average over the tokens that are real."""
    keras.utils.clear_session()
    tokens, real = keras.Input((None,), dtype="int32", name="tokens"), keras.Input((None,), name="real")
    x = layers.LSTM(4, return_sequences=True)(layers.Embedding(5, 3)(tokens))
    x = layers.Dropout(0.2, seed=1)(x)
    x = keras.ops.sum(x * keras.ops.expand_dims(real, -1), axis=1) / keras.ops.sum(real, axis=1, keepdims=True)
    model = keras.Model({"tokens": tokens, "real": real}, layers.Dense(5)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(backend.fused(keras.optimizers.Adam(0.01)), loss, metrics=["accuracy"])
    layers.initialize(model, seed=0)
    backend.accelerate_steps(model)
    return model


class Compilations(keras.callbacks.Callback):
    """How often something was compiled by the end of each epoch, its evaluation included."""

    def __init__(self, evaluate):
        super().__init__()
        self.evaluate, self.counts, self.losses = evaluate, [], []

    def on_epoch_end(self, epoch, logs=None):
        self.losses.append(self.evaluate()["loss"])
        self.counts.append(backend.compilations())


def test_batches_of_several_lengths_compile_nothing_after_the_first_epoch():
    backend.compilations()
    model = reader()
    callback = Compilations(backend.evaluation(model, Sequences((8, 4, 8))))
    model.fit(backend.feed(Sequences()), epochs=3, shuffle=False, verbose=0, callbacks=[callback])
    assert callback.counts[0] > 0
    assert callback.counts[1:] == callback.counts[:1] * 2
    assert len(set(callback.losses)) == 3


def test_batches_of_several_lengths_train_as_keras_does_with_each_alone():
    fast, plain = reader(), reader()
    state = plain.get_weights()
    fast.fit(backend.feed(Sequences()), epochs=1, shuffle=False, verbose=0)
    plain.set_weights(state)
    plain.compile(keras.optimizers.Adam(0.01), plain.loss)
    data = Sequences()
    for step in range(len(data)):
        plain.train_on_batch(*data[step])
    for ours, theirs in zip(fast.trainable_variables, plain.trainable_variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="only torch keeps a recording of each shape")
def test_recordings_are_bounded_and_what_is_beyond_them_is_said(monkeypatch, capsys):
    from layers.backend import fallback_log
    from layers.backend.engine import recording

    monkeypatch.setattr(recording, "MOST", 2)
    monkeypatch.setattr(fallback_log, "counts", type(fallback_log.counts)())
    model = reader()
    model.fit(backend.feed(Sequences((2, 3, 4, 5))), epochs=2, shuffle=False, verbose=0)
    assert len(model.train_function.replays) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("its batches have more than 2 shapes")
    assert backend.fallbacks() == {line: 4}


def threads():
    return [each for each in threading.enumerate() if each.name == "batches made ahead"]


def test_batches_made_ahead_come_in_order_and_leave_no_thread():
    data = Sequences((4,) * 6)
    data.ahead = 2
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(batch)

        def on_epoch_begin(self, epoch, logs=None):
            data.made.clear()

    class End(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            assert data.made[-6:] == list(range(6)) and threads() == []

    model = reader()
    model.fit(backend.feed(data), epochs=2, shuffle=False, verbose=0, callbacks=[Watch(), End()])
    assert seen == list(range(6)) * 2


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="`tf.data` makes them ahead in threads of its own")
def test_batches_are_made_while_the_step_runs():
    from layers.backend.engine.ahead import MadeAhead

    data = Sequences((4,) * 6)
    held = MadeAhead(data, 2)
    held[0]
    deadline = time.monotonic() + 5
    while len(data.made) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert data.made == [0, 1, 2]  # the one that was asked for, and two more
    held[0]  # an epoch that begins anew
    assert [held[step][0]["tokens"].shape for step in range(1, 6)] == [(2, 4)] * 5 and threads() == []


def test_an_error_in_a_batch_made_ahead_is_raised_in_its_place():
    class Broken(Sequences):
        ahead = 3

        def __getitem__(self, step):
            if step == 2:
                raise OSError("picture-7.png: cannot be read")
            return super().__getitem__(step)

    seen = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    with pytest.raises(Exception, match=r"picture-7\.png: cannot be read"):
        reader().fit(backend.feed(Broken()), shuffle=False, verbose=0, callbacks=[count])
    assert seen == [0, 1] and threads() == []


def test_a_fit_that_is_broken_off_leaves_no_thread():
    data = Sequences((4,) * 6)
    data.ahead = 2

    def stop(batch, logs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reader().fit(backend.feed(data), verbose=0, callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=stop)])
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() == []
