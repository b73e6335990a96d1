"""PyTorch: what Keras's optimizers do to all weights, in one kernel or at least without waiting for the device."""

import keras
import torch
from torch.overrides import TorchFunctionMode

from .. import keras_private
from .recording import for_compiler


def fused(optimizer):
    if isinstance(optimizer, keras.optimizers.SGD | keras.optimizers.Adadelta):
        return on_device(optimizer)
    if not isinstance(optimizer, keras.optimizers.Adam) or optimizer.amsgrad:
        return optimizer
    keras_private.replace_update(optimizer, lambda plainly: in_one_kernel(optimizer, plainly))
    return optimizer


def in_one_kernel(optimizer, plainly):
    """Adam's update; `plainly`, Keras's, makes ten operations on every weight, five of them into new memory."""

    def update(gradients, variables, learning_rate):
        weights = [variable.value for variable in variables]
        device = weights[0].device
        fit = all(each.dtype == torch.float32 and each.device == device for each in (*weights, *gradients))
        if for_compiler.get() or torch.compiler.is_compiling() or not fit:  # a compiler makes one kernel of the plain way
            return plainly(gradients, variables, learning_rate)
        # Torch corrects the means for their start at zero in another place than Keras, which matters beside `epsilon`: so
        # it is given Keras's corrected rate, and a step so late that it corrects nothing.
        step = (optimizer.iterations + 1).float()
        correction = torch.sqrt(1 - optimizer.beta_2**step) / (1 - optimizer.beta_1**step)
        moments = keras_private.adam_moments(optimizer, variables)
        means, squares = ([each.value for each in kind] for kind in moments)
        torch._fused_adam_(
            weights,
            list(gradients),
            means,
            squares,
            [],
            [torch.full_like(correction, 1e12)] * len(weights),
            lr=(learning_rate * correction).float(),
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            weight_decay=0.0,
            eps=optimizer.epsilon,
            amsgrad=False,
            maximize=False,
        )

    return update


def on_device(optimizer):
    """The same, its learning rate never read back: torch adds tensors times a number, and Keras gives it the rate for one."""

    def scaled(plainly):
        def update(gradients, variables, learning_rate):
            with Scaled():
                plainly(gradients, variables, learning_rate)

        return update

    keras_private.replace_update(optimizer, scaled)
    return optimizer


class Scaled(TorchFunctionMode):
    """Tensors are added times a tensor."""

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        keywords = keywords or {}
        if function is torch._foreach_add_ and isinstance(keywords.get("alpha"), torch.Tensor):
            added, tensors = arguments
            return function(added, torch._foreach_mul(tensors, keywords["alpha"]))
        return function(*arguments, **keywords)
