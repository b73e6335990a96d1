"""PyTorch: gradients by autograd, steps that are recorded and replayed, the devices."""

import os

import torch

from .. import fallback_log
from ..keras_private import raw_value
from . import plain
from .ahead import made_ahead
from .recording import Recorded, Repeated, leaves, packed, recordings, summary
from .torch_optimizers import fused as fused  # this backend's own way, which `_best` finds here


def seed(number):
    torch.default_generator.manual_seed(number)  # `torch.manual_seed` formats a stack of calls, half a millisecond
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(number)


def loss_and_gradients(model, x, y, sample_weight, training):
    variables = [variable.value for variable in model.trainable_variables]
    x, y, sample_weight = tensors((x, y, sample_weight))
    predictions = model(x, training=training)
    loss = model.compute_loss(x, y, predictions, sample_weight, training=training)
    gradients = torch.autograd.grad(loss, variables, allow_unused=True) if variables else []
    gradients = [torch.zeros_like(v) if g is None else g for g, v in zip(gradients, variables, strict=True)]
    return predictions, loss.item(), [gradient.cpu().numpy() for gradient in gradients]


def per_example_gradients(model, x, y, sample_weight):
    batch = (x, y, sample_weight)
    parts = leaves(batch)
    there = [index for index, part in enumerate(parts) if part is not None]
    loss = plain.loss_of_example(model)
    values = [variable.value.detach() for variable in model.trainable_variables]
    others = [variable.value.detach() for variable in model.non_trainable_variables]

    def loss_of(values, *given):
        example = [None] * len(parts)
        for index, part in zip(there, given, strict=True):
            example[index] = part
        # Copies: some layers write into their state in place.
        return loss(values, [other.clone() for other in others], packed(batch, iter(example)))

    gradients = torch.func.grad(loss_of)
    given = [parts[index] for index in there]
    with torch.enable_grad():
        try:
            return torch.func.vmap(gradients, in_dims=(None, *[0] * len(given)))(values, *given)
        except (RuntimeError, NotImplementedError) as error:
            rows = [gradients(values, *row) for row in zip(*given, strict=True)]
            fallback_log.note(f"gradients of {model.name} are worked out for one example after the other: {summary(error)}")
    return [torch.stack(column) for column in zip(*rows, strict=True)]


def gradient(function, x):
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_(True)
        return torch.autograd.grad(function(x).sum(), x, create_graph=True)[0]


def compiled(function, model):
    return Repeated(function, model.variables)


def compilations():
    return recordings


def accelerate_steps(model):
    if not model.run_eagerly:
        compiled = bool(model.jit_compile)
        model.train_function = Recorded(model, model.train_step, training=True, compiled=compiled)
        model.test_function = Recorded(model, model.test_step, training=False, compiled=compiled)
        plain.shorten_epochs(model, lambda: type(model).reset_metrics(model))


def evaluation(model, batches):
    test, epoch = model.test_function, Epoch(batches)
    if not isinstance(test, Recorded):
        return plain.evaluation(model, batches, feed)
    zeros = []

    def evaluate():
        if not zeros:
            model.reset_metrics()
            zeros.extend((raw_value(variable), raw_value(variable).detach().clone()) for variable in model.metrics_variables)
        with torch.no_grad():
            for value, zero in zeros:
                value.copy_(zero)
        for batch in epoch:
            logs = test([tensors(batch)])
        return {name: float(value) for name, value in logs.items()}

    return evaluate


def feed(batches):
    return torch.utils.data.DataLoader(Epoch(batches), batch_size=None, collate_fn=tensors)


class Epoch(torch.utils.data.IterableDataset):
    """The batches of the epoch that is set, as tensors."""

    def __init__(self, batches):
        constant = batches.constant()
        self.constant = constant and tensors(constant)
        self.batches = batches if constant else made_ahead(batches)

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for step in range(len(self.batches)):
            yield self.constant or self.batches[step]


def tensors(batch):
    return packed(batch, iter(leaves(batch)))


def synchronize():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def release_memory():
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def devices():
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"]


def device_kind():
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"


def is_out_of_memory(error):
    # On a processor the error has no class of its own.
    return isinstance(error, torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))


def out_of_memory():
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")


def peak_device_bytes():
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def configure(deterministic, threads):
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.utils.deterministic.fill_uninitialized_memory = False  # nothing reads it; half a millisecond a step of LeNet
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = not deterministic
    torch.set_float32_matmul_precision("highest" if deterministic else "high")
    if threads:
        torch.set_num_threads(threads)
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")


def data_distribution():
    raise ValueError(
        "`distribution` must be `none` on the torch backend: Keras has no data distribution for it. "
        "Received: distribution='data'. Use the jax or the tensorflow backend."
    )


def versions():
    return {"torch": torch.__version__}
