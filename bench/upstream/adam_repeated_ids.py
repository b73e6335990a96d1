"""Keras 3.15.1, TensorFlow: Adam trains other weights when a batch holds an id twice. Found by `triptych matrix`.

    KERAS_BACKEND=tensorflow python bench/upstream/adam_repeated_ids.py
    KERAS_BACKEND=jax python bench/upstream/adam_repeated_ids.py

The gradient of an embedding is then a `tf.IndexedSlices` that lists the id twice, and `ops.square` squares each of the two
rows: Adam's second moment holds a^2 + b^2 in the place of (a + b)^2. RMSprop and Adagrad square in the same way. Our layers
give TensorFlow the sum (`take_rows` in `layers/backend/arithmetic/on_tensorflow.py`); it can go when Keras adds the rows up.
"""

import keras
import numpy as np

for ids in ([0, 1, 2], [0, 0, 1]):
    table = np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3)
    inputs = keras.Input((3,), dtype="int32")
    model = keras.Model(inputs, keras.layers.Embedding(4, 3)(inputs))
    model.compile(keras.optimizers.Adam(0.1), "mean_squared_error")
    model.set_weights([table])
    expected, mean, square = table.astype("float64"), 0.0, 0.0
    for step in (1, 2, 3):
        model.train_on_batch(np.array([ids], "int32"), np.ones((1, 3, 3), "float32"))
        gradient = np.zeros_like(expected)
        np.add.at(gradient, ids, 2 * (expected[ids] - 1) / 9)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        expected = expected - 0.1 * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-7)
    far = np.abs(model.get_weights()[0] - expected).max()
    print(f"{keras.backend.backend()}, ids {ids}: {far:.1e} from Adam in NumPy after three steps")
