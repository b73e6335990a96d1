"""What layers for sequences ask of the running backend."""

import importlib

import keras

_running = importlib.import_module(f"._language_{keras.backend.backend()}", __package__)


def scan(step, state, inputs):
    """All states of a recurrence, one after the other along a new first axis.

    Args:
        step: `step(state, x)` returns the next state, of the same shapes and types.
        state: Nested lists of tensors, the state before the first step.
        inputs: Nested lists of tensors whose first axis are the steps.
    """
    return _running.scan(step, state, inputs)


def accumulate(function, total, inputs):
    """`function` of one chunk after the other, what it returns first one below the other, what it returns second added up.

    Args:
        function: Takes as many tensors as `inputs` has; returns a tensor and a summand.
        total: What the sum begins with.
        inputs: A list of tensors whose first axis are the chunks.
    Returns:
        `(outputs, total)`.
    """
    return _running.accumulate(function, total, inputs)


def simple_rnn(x, kernel, recurrent_kernel, bias):
    """`h_t = tanh(x_t W + h_{t-1} U + b)` of all steps by a fused kernel, `None` where there is none."""
    return _running.simple_rnn(x, kernel, recurrent_kernel, bias)
