"""TensorFlow 2.21: the slope of `leaky_relu` is that of single precision in double precision, too."""

import tensorflow as tf

print(tf.nn.leaky_relu(tf.constant([-1.0], tf.float64), alpha=0.2).numpy()[0])
