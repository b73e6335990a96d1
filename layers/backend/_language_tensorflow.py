"""TensorFlow: a scan in the graph, of any number of steps."""

import tensorflow as tf


def scan(step, state, inputs):
    return tf.scan(step, inputs, initializer=state)


def accumulate(function, total, inputs):
    count = tf.shape(inputs[0])[0]

    def step(place, total, outputs):
        output, summand = function(*(each[place] for each in inputs))
        return place + 1, total + summand, outputs.write(place, output)

    outputs = tf.TensorArray(total.dtype, size=count)
    loop = tf.while_loop(lambda place, *_: place < count, step, (0, total, outputs), parallel_iterations=1)
    return loop[2].stack(), loop[1]


def simple_rnn(x, kernel, recurrent_kernel, bias):
    return None
