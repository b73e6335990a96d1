"""PyTorch: a training step recorded once as the plain list of operations it is, and replayed.

Keras walks its layers, and autograd writes its tape, in Python and anew at every step; on a processor that takes longer than
the arithmetic of a small network. Here the first step runs as Keras runs it, while torch notes each operation, those
of the backward pass and of the optimizer included. The steps that follow call the same kernels on the same tensors in
the same order, so their numbers are the same bits.
"""

import collections
import contextlib

import keras
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg
from torch.overrides import TorchFunctionMode

aten = torch.ops.aten
recordings = []  # the shapes of everything recorded in this process


class Recorded:
    """Stands in for a model's `train_function` or `test_function`.

    A step that cannot be replayed (Python decides by a value, or a generator of its own is seeded at each step) goes
    on as Keras runs it.

    Args:
        model: A compiled model.
        step: `model.train_step` or `model.test_step`.
    """

    def __init__(self, model, step, training):
        self.model, self.step, self.training = model, step, training
        self.replays = {}  # by the shapes and types of a batch

    def __call__(self, batches):
        (batch,) = batches
        tensors = leaves(batch)
        kind = tuple(tensor if tensor is None else (tensor.shape, tensor.dtype) for tensor in tensors)
        if kind not in self.replays:
            return self._first(kind, batch, tensors)
        replay, variables = self.replays[kind]
        if replay is None:
            with torch.set_grad_enabled(self.training):
                return self.step(packed(batch, iter(tensors)))
        return replayed(replay, variables, tensors)

    def _first(self, kind, batch, tensors):
        variables = self._variables()
        before = [variable._value.detach().clone() for variable in variables]
        random = torch.get_rng_state()
        logs = None

        def step(state, tensors):
            nonlocal logs
            with Unchecked(), torch.set_grad_enabled(self.training):
                logs = self.step(packed(batch, iter(tensors)))
            return logs

        recordings.append(kind)
        try:
            graph = recorded(step, variables, tensors)
        except Exception:  # the step as Keras runs it says what is wrong, if anything is
            with torch.no_grad():
                for variable, value in zip(variables, before, strict=True):
                    variable._value.copy_(value)
            torch.set_rng_state(random)
            self.replays[kind] = None, ()
            return self([batch])
        finally:
            self.model.zero_grad()
        self.replays[kind] = (None, ()) if seeds_itself(graph) else (shortened(graph), variables)
        return keras.tree.map_structure(torch.detach, logs)

    def _variables(self):
        model = self.model
        found = [*model.variables, *model.metrics_variables, *(model.optimizer.variables if self.training else ())]
        return list({id(variable): variable for variable in found}.values())


class Repeated:
    """A function of tensors without side effects, recorded at the third call with arguments of the same shapes.

    A few calls are sooner done than recorded. What cannot be replayed goes on as it is.

    Args:
        function: Takes and returns nested tuples, lists and dicts of tensors.
        variables: The Keras variables it may read.
    """

    def __init__(self, function, variables):
        self.function, self.variables = function, variables
        self.calls, self.replays = collections.Counter(), {}  # by the shapes and types of the arguments

    def __call__(self, *arguments):
        tensors = leaves(arguments)
        kind = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
        replay = self.replays.get(kind)
        if replay is not None:
            return replayed(replay, self.variables, tensors)
        self.calls[kind] += 1
        if self.calls[kind] == 3:
            self._record(kind, arguments, tensors)
        with torch.inference_mode():
            return self.function(*packed(arguments, iter(tensors)))

    def _record(self, kind, arguments, tensors):
        def function(state, tensors):
            with Unchecked(), torch.no_grad():
                return self.function(*packed(arguments, iter(tensors)))

        recordings.append(kind)
        with contextlib.suppress(Exception):  # the function as it is says what is wrong, if anything is
            graph = recorded(function, self.variables, [tensor.clone() for tensor in tensors])
            if not seeds_itself(graph):
                self.replays[kind] = shortened(graph)


def recorded(function, variables, tensors):
    """The operations of `function(values of variables, tensors)` as a module."""
    make = make_fx(function, tracing_mode="real", record_module_stack=False)
    return make([variable._value for variable in variables], tensors)


def replayed(replay, variables, tensors):
    """The results of a recorded module on the variables' present values."""
    if replay.wants_gradients:
        with torch.enable_grad():
            return replay([variable._value.detach() for variable in variables], tensors)
    with torch.inference_mode():
        return replay([variable._value for variable in variables], tensors)


class Unchecked(TorchFunctionMode):
    """`one_hot` without the look at its largest value, at which a processor would have to wait for the device."""

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        if function is torch.nn.functional.one_hot and len(arguments) == 2:
            classes = torch.arange(arguments[1], device=arguments[0].device)
            return (arguments[0].unsqueeze(-1) == classes).long()
        return function(*arguments, **(keywords or {}))


def leaves(batch):
    """The tensors of a batch, which is nested tuples, lists and dicts of arrays; `keras.tree` takes ten times as long."""
    if isinstance(batch, dict):
        batch = batch.values()
    elif not isinstance(batch, tuple | list):
        return [batch if batch is None or isinstance(batch, torch.Tensor) else keras.ops.convert_to_tensor(batch)]
    return [leaf for part in batch for leaf in leaves(part)]


def packed(batch, tensors):
    """`tensors`, an iterator, in the nesting of `batch`."""
    if isinstance(batch, dict):
        return {name: packed(part, tensors) for name, part in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)([packed(part, tensors) for part in batch])
    return next(tensors)


def seeds_itself(graph):
    """Whether an operation draws from a generator that Python seeds: replayed, it would draw the same every time."""
    return any(
        isinstance(value, torch.Generator) for node in graph.graph.nodes for value in (*node.args, *node.kwargs.values())
    )


def changes(node):
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def shortened(module):
    """The recorded module without autograd's bookkeeping, and with what depends on constants alone worked out."""
    graph = module.graph
    for node in graph.nodes:
        if node.target is aten.detach.default:
            node.replace_all_uses_with(node.args[0])
    constants = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            constants[node] = getattr(module, node.target)
        elif node.op == "call_function" and fixed(node, constants):
            value = node.target(*map_arg(node.args, constants.get), **map_arg(node.kwargs, constants.get))
            name = f"constant_{node.name}"
            module.register_buffer(name, value, persistent=False)
            with graph.inserting_before(node):
                known = graph.get_attr(name)
            node.replace_all_uses_with(known)
            constants[known] = value
    for node in reversed(graph.nodes):
        if node.op in ("call_function", "get_attr") and not node.users and not changes(node):
            graph.erase_node(node)
    # This kernel keeps what its backward pass needs only where gradients are wanted; nothing here asks for any.
    module.wants_gradients = any(node.target is aten.mkldnn_rnn_layer.default for node in graph.nodes)
    module.recompile()
    return module


def fixed(node, constants):
    """Whether the node gives the same tensor every time, and nothing writes into it."""
    return (
        isinstance(node.target, torch._ops.OpOverload)
        and torch.Tag.nondeterministic_seeded not in node.target.tags
        and len(node.target._schema.returns) == 1
        and all(each in constants for each in node.all_input_nodes)
        and not changes(node)
        and not written(node)
    )


def written(node):
    """Whether an operation may write into the node's tensor, through a view of it too."""
    return any(changes(user) or (is_view(user) and written(user)) for user in node.users)


def is_view(node):
    return isinstance(node.target, torch._ops.OpOverload) and any(each.alias_info for each in node.target._schema.returns)
