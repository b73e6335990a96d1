"""A TensorFlow SavedModel that makes features of pictures, whatever the backend: TensorFlow is imported when one is opened.

The files may come from anybody, so that what could touch files or run code is refused before anything is loaded.
"""

import contextlib
from pathlib import Path

import keras
import numpy as np

BATCH = 32
# Operations with a state that a network needs; the others with one read and write files, call Python or look things up.
ALLOWED = {
    "Assert", "AssignAddVariableOp", "AssignSubVariableOp", "AssignVariableOp", "If", "Placeholder",
    "PartitionedCall", "RandomStandardNormal", "RandomUniform", "RandomUniformInt", "ReadVariableOp", "ResourceGather",
    "StatefulPartitionedCall", "TruncatedNormal", "VarHandleOp", "VarIsInitializedOp", "While",
}  # fmt: skip
REFUSED = {"ReadFile", "MatchingFiles", "LoadAndRemapMatrix", "GenerateVocabRemapping"}  # without a state in TensorFlow's eyes


class SavedModel:
    """What a SavedModel of TensorFlow 2 computes of pictures: `(n, height, width, 3)` in 0..1 to features `(n, features)`.

    It is called as it is for prediction: its batch norms keep their statistics, its dropout does nothing.

    Args:
        folder: That has `saved_model.pb` in it.
        shape: `(height, width)` of the pictures.
    Raises:
        ImportError: TensorFlow is not installed.
        ValueError: It could touch files or run code, or takes no such pictures, or gives no features.
    """

    def __init__(self, folder, shape):
        tf = tensorflow()
        refuse_dangerous(Path(folder) / "saved_model.pb")
        self.loaded = tf.saved_model.load(str(folder))
        blank = tf.zeros((1, *shape, 3))
        self.function, made = first_that_works(self.loaded, blank)
        self.features = int(made.shape[-1])
        with tf.GradientTape() as tape:
            self.function(blank)
        reached = {id(variable) for variable in tape.watched_variables()}
        # Those it reads in this way: what else lies in the file, such as a classifier's head, is left aside.
        self.variables = [each for each in variables_of(self.loaded) if each.dtype.is_floating]
        self.trainable = [id(variable) in reached for variable in self.variables]

    def __call__(self, pictures):
        """Of a batch of TensorFlow's tensors, in its graph."""
        return self.function(pictures)

    def compute(self, images):
        """Features `(n, features)`, single precision, of uint8 images of one or three channels."""
        found = [np.empty((0, self.features), "float32")]
        for start in range(0, len(images), BATCH):
            found.append(self.function(as_colours(images[start : start + BATCH])).numpy().astype("float32"))
        return np.concatenate(found)

    def specification(self):
        """Name, shape and whether it is trained of each variable, as plain values."""
        shapes = ([int(size) for size in variable.shape] for variable in self.variables)
        return [[f"weight{i}", shape, trained] for i, (shape, trained) in enumerate(zip(shapes, self.trainable, strict=True))]

    def set_weights(self, values):
        for variable, value in zip(self.variables, values, strict=True):
            variable.assign(keras.ops.convert_to_numpy(value))


def trainable_here():
    """Whether the running backend computes the graph within its own steps, gradients and all."""
    return keras.backend.backend() == "tensorflow"


def as_colours(images):
    """uint8 images of one or three channels as `(n, height, width, 3)` in 0..1."""
    images = np.asarray(images, "float32") / 255.0
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def tensorflow():
    """TensorFlow; beside another backend it leaves that one's graphics cards alone."""
    import tensorflow as tf

    if not trainable_here():
        with contextlib.suppress(RuntimeError):  # it has begun to compute
            tf.config.set_visible_devices([], "GPU")
    return tf


def first_that_works(loaded, blank):
    """A function of pictures, in the ways SavedModels are called; and what it made of `blank`."""
    signatures = getattr(loaded, "signatures", {})
    ways = [lambda x: loaded(x, training=False), lambda x: loaded(x)] if callable(loaded) else []
    ways += [only(signatures[name]) for name in ("serving_default", "default") if name in signatures]
    said = "it has neither `__call__` nor a signature `serving_default`"
    for way in ways:
        try:
            made = way(blank)
        except Exception as error:  # TensorFlow raises as many kinds as there are ways to be called wrongly
            said = " ".join(str(error).split())[:160]
            continue
        if getattr(made, "shape", None) is not None and len(made.shape) == 2:
            return way, made
        said = f"it gives {getattr(made, 'shape', type(made).__name__)}, not features of (pictures, numbers)"
    height, width = blank.shape[1:3]
    raise ValueError(f"pictures of {height} x {width} x 3 in 0..1 cannot be given to it: {said}")


def only(signature):
    """A signature of one input and one output as a function."""
    def call(x):
        ((name, specification),) = signature.structured_input_signature[1].items()
        if not specification.shape.is_compatible_with(x.shape):  # TensorFlow itself does not look
            raise ValueError(f"it takes {specification.shape}")
        (made,) = signature(**{name: x}).values()
        return made

    return call


def variables_of(loaded):
    """The variables of what was loaded, in the order of the object's own graph, which its file settles."""
    import tensorflow as tf

    found, seen, waiting = [], set(), [loaded]
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, tf.Variable):
            found.append(each)
        waiting += [child for _, child in sorted(each._trackable_children().items()) if hasattr(child, "_trackable_children")]
    return found


def refuse_dangerous(path):
    """Refuse a file whose functions could do more than compute.

    Raises:
        ValueError: Naming the operation.
    """
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.framework import op_def_registry

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's own
        raise ValueError(f"{path.name} is damaged ({str(error)[:80]})") from None
    for graph in saved.meta_graphs:
        roots = graph.object_graph_def.concrete_functions
        if not graph.object_graph_def.nodes:
            raise ValueError("it is of TensorFlow 1; expected a SavedModel of TensorFlow 2")
        functions = {each.signature.name: each for each in graph.graph_def.library.function}
        # What writes and reads checkpoints lies in it as well, but nothing calls it.
        waiting, seen = list(roots), set()
        while waiting:
            name = waiting.pop()
            if name in seen or name not in functions:
                continue
            seen.add(name)
            for node in functions[name].node_def:
                known = op_def_registry.get(node.op)
                if known is None or node.op in REFUSED or (known.is_stateful and node.op not in ALLOWED):
                    raise ValueError(f"its operation {node.op} could do more than compute features")
                for value in node.attr.values():
                    waiting += [value.func.name, *(each.name for each in value.list.func)]
