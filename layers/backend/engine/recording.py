"""PyTorch: a training step recorded once as the plain list of operations it is, and replayed.

Keras walks its layers, and autograd writes its tape, in Python and anew at every step; on a processor that takes longer than
the arithmetic of a small network. Here the first step runs as Keras runs it, while torch notes each operation, those
of the backward pass and of the optimizer included. The steps that follow call the same kernels on the same tensors in
the same order, so their numbers are the same bits.

On a GPU the replay is in its turn captured as a CUDA graph, all kernels of a step in one launch. And the list is what
torch's compiler is given where compiling is asked for: passes forwards and backwards and the optimizer in one piece, which it
cannot see in Python, since it does not follow `backward()`.
"""

import collections
import contextvars

import keras
import numpy as np
import torch
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg
from torch.overrides import TorchFunctionMode

from .. import fallback_log
from ..keras_private import raw_value

aten = torch.ops.aten
recordings = []  # the shapes of everything recorded in this process
for_compiler = contextvars.ContextVar("for_compiler", default=False)  # whether what is recorded will be compiled
COPIED = ("uint8", "int32", "int64", "float32")  # of which Keras makes tensors of the same type
MOST = 32  # shapes of which one function is recorded, each a list of operations that is kept
SEEDED = "it draws from a generator that Python seeds at each call, such as `keras.random`'s"
WARM = 3  # replays before one is captured, in which libraries choose their kernels and take their memory


class Recorded:
    """Stands in for a model's `train_function` or `test_function`.

    A step that cannot be replayed (Python decides by a value, or a generator of its own is seeded at each step) goes
    on as Keras runs it, and so do batches of other shapes than the first 32; `fallbacks` says so.

    Args:
        model: A compiled model.
        step: `model.train_step` or `model.test_step`.
        training: Whether the step is one of training.
        compiled: Whether torch's compiler gets the recording; sums are then rounded in another order.
    """

    def __init__(self, model, step, training, compiled=False):
        self.model, self.step, self.training, self.compiled = model, step, training, compiled
        self.replays = {}  # by the shapes and types of a batch; `None` where it cannot be replayed
        self.what = f"a step of {'training' if training else 'evaluation'} of {type(model).__name__}"

    def __call__(self, batches):
        (batch,) = batches
        tensors = leaves(batch)
        kind = tuple(tensor if tensor is None else (tensor.shape, tensor.dtype) for tensor in tensors)
        if kind not in self.replays and len(self.replays) < MOST:
            return self._first(kind, batch, tensors)
        if kind not in self.replays:
            fallback_log.note(f"{self.what} runs unrecorded, which is slower: its batches have more than {MOST} shapes")
        replay = self.replays.get(kind)
        return self._plainly(batch, tensors) if replay is None else replay(tensors)

    def _plainly(self, batch, tensors):
        with torch.set_grad_enabled(self.training):
            return self.step(packed(batch, iter(tensors)))

    def _first(self, kind, batch, tensors):
        variables = self._variables()
        before = [raw_value(variable).detach().clone() for variable in variables]
        random = torch.get_rng_state()
        logs = None

        def step(state, tensors):
            nonlocal logs
            # A backward pass on a GPU would else run in threads of its own.
            with Unchecked(), torch.set_grad_enabled(self.training), torch.autograd.set_multithreading_enabled(False):
                logs = self.step(packed(batch, iter(tensors)))
            return logs

        recordings.append(kind)
        compiling = for_compiler.set(self.compiled)
        try:
            graph = recorded(step, variables, tensors)
        except Exception as error:
            with torch.no_grad():
                for variable, value in zip(variables, before, strict=True):
                    raw_value(variable).copy_(value)
            torch.set_rng_state(random)
            logs = self._plainly(batch, tensors)  # which says what is wrong, if the step itself is
            self.replays[kind] = None
            fallback_log.note(f"{self.what} runs unrecorded, which is slower: {summary(error)}")
            return logs
        finally:
            for_compiler.reset(compiling)
            self.model.zero_grad()
        if seeds_itself(graph):
            self.replays[kind] = None
            fallback_log.note(f"{self.what} runs unrecorded, which is slower: {SEEDED}")
        else:
            self.replays[kind] = Replay(shortened(graph), variables, self.compiled)
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
            return replay(tensors)
        if kind in self.calls or len(self.calls) < MOST:
            self.calls[kind] += 1
        else:
            fallback_log.note(f"a function runs unrecorded, which is slower: it is called with more than {MOST} shapes")
        if self.calls.get(kind) == 3:
            self._record(kind, arguments, tensors)
        with torch.inference_mode():
            return self.function(*packed(arguments, iter(tensors)))

    def _record(self, kind, arguments, tensors):
        def function(state, tensors):
            with Unchecked(), torch.no_grad():
                return self.function(*packed(arguments, iter(tensors)))

        recordings.append(kind)
        try:
            graph = recorded(function, self.variables, [tensor.clone() for tensor in tensors])
        except Exception as error:  # it has run twice before, so it is the recording that failed
            fallback_log.note(f"a function runs unrecorded, which is slower: {summary(error)}")
            return
        if seeds_itself(graph):
            fallback_log.note(f"a function runs unrecorded, which is slower: {SEEDED}")
        else:
            self.replays[kind] = Replay(shortened(graph), self.variables)


class Replay:
    """A recorded module, called with other tensors of the same shapes on the variables' present values.

    Args:
        module: What `recorded` gave.
        variables: The Keras variables it reads and writes.
        compiled: Whether torch's compiler makes kernels of it.
    """

    def __init__(self, module, variables, compiled=False):
        self.variables, self.module = variables, module
        self.run = torch.compile(module, dynamic=False) if compiled else module
        self.compiled, self.warm, self.captured = compiled, 0, None
        # Numbers that lie in the machine's memory would become constants of the graph.
        self.capturable = bool(variables) and all(raw_value(variable).is_cuda for variable in variables)

    def __call__(self, tensors):
        if self.captured is not None:
            return self.captured(tensors)
        if self.capturable:
            self.warm += 1
            if self.warm > WARM:
                self.capturable = False
                try:
                    self.captured = Captured(self.replayed, self.variables, tensors)
                    return self.captured(tensors)
                except RuntimeError as error:  # an operation waits for the device, or memory does not suffice
                    fallback_log.note(f"a recorded step is not captured as one CUDA graph, which is slower: {summary(error)}")
        return self.replayed(tensors)

    def replayed(self, tensors):
        if self.module.wants_gradients:
            with torch.enable_grad():
                return self.run([raw_value(variable).detach() for variable in self.variables], tensors)
        with torch.no_grad() if self.compiled else torch.inference_mode():
            return self.run([raw_value(variable) for variable in self.variables], tensors)


class Captured:
    """All kernels of a replay as one CUDA graph, which takes its tensors and leaves its results at fixed places.

    Args:
        replay: Function of a list of tensors, all on the GPU.
        variables: The Keras variables it reads and writes, whose places must stay.
        tensors: Tensors of the shapes it will be called with.
    Raises:
        RuntimeError: CUDA can not capture it.
    """

    pool = None  # of memory; one for all, since no two of them run at a time and their results are copied

    def __init__(self, replay, variables, tensors):
        if any(tensor is not None and not tensor.is_cuda for tensor in tensors):
            raise RuntimeError("a number in the machine's memory would become a constant of the graph")
        self.replay, self.variables = replay, variables
        self.tensors = [None if tensor is None else tensor.clone() for tensor in tensors]
        self.places = [raw_value(variable).data_ptr() for variable in variables]
        self.graph = torch.cuda.CUDAGraph()
        Captured.pool = Captured.pool or torch.cuda.graph_pool_handle()
        with torch.cuda.graph(self.graph, pool=Captured.pool):
            self.results = replay(self.tensors)

    def __call__(self, tensors):
        if any(raw_value(variable).data_ptr() != place for variable, place in zip(self.variables, self.places, strict=True)):
            return self.replay(tensors)
        for own, tensor in zip(self.tensors, tensors, strict=True):
            if own is not None:
                own.copy_(tensor, non_blocking=True)
        self.graph.replay()
        return keras.tree.map_structure(torch.clone, self.results)


def recorded(function, variables, tensors):
    """The operations of `function(values of variables, tensors)` as a module."""
    make = make_fx(function, tracing_mode="real", record_module_stack=False)
    # Beside each operation torch notes its result's shape, each in a new mode for shapes if there is none: half of the time.
    with tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True))):
        return make([raw_value(variable) for variable in variables], tensors)


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
        return [batch if batch is None or isinstance(batch, torch.Tensor) else placed(batch)]
    return [leaf for part in batch for leaf in leaves(part)]


def placed(array):
    """The tensor of an array; a GPU fetches it by itself while the processor goes on."""
    if torch.cuda.is_available() and isinstance(array, np.ndarray) and array.dtype in COPIED:
        return torch.from_numpy(np.ascontiguousarray(array)).pin_memory().to("cuda", non_blocking=True)
    return keras.ops.convert_to_tensor(array)


def packed(batch, tensors):
    """`tensors`, an iterator, in the nesting of `batch`."""
    if isinstance(batch, dict):
        return {name: packed(part, tensors) for name, part in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)([packed(part, tensors) for part in batch])
    return next(tensors)


def summary(error):
    """Why a step could not be recorded: what torch says in several lines is put in one."""
    if "get value out of a tracing tensor" in str(error):
        return "Python looks at the value of a tensor"
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


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
        and [str(each.type) for each in node.target._schema.returns] == ["Tensor"]
        and all(each in constants for each in node.all_input_nodes)
        and not changes(node)
        and not written(node)
    )


def written(node):
    """Whether an operation may write into the node's tensor, through a view of it too."""
    return any(changes(user) or (is_view(user) and written(user)) for user in node.users)


def is_view(node):
    return isinstance(node.target, torch._ops.OpOverload) and any(each.alias_info for each in node.target._schema.returns)
