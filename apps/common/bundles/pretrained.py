"""`--pretrained SOURCE`: weights that somebody trained before, put into a new model where names and shapes agree.

A source is a bundle trained here (its folder, a run id or `name@alias`). `keras:NAME`, `hf:FOLDER` and `tfhub:PATH` name
networks of other libraries; whoever builds a model on one brings its own trunk, whose weights are there already.
"""

import keras

from apps.common.bundles.bundle import load_model, open_bundle
from apps.common.errors import UserError
from apps.common.files import sha256
from apps.common.options.training import library_of
from apps.common.output import say
from layers.initialization import own_variables

HEAD = "logits"  # the layer that answers the task itself, which is another one now


def is_bundle(source):
    """Whether a source is a bundle of ours, and not a network of another library."""
    return bool(source) and not library_of(source)


def load_weights(model, source, renewed=0):
    """Put a bundle's weights into a built model whose own have been drawn; the layers they went to.

    Args:
        model: The new model.
        source: A bundle folder, a run id or `name@alias`.
        renewed: How many of the layers with kernels before the one called `logits` stay as they were drawn, too.
    Returns:
        The layers all of whose weights come from the source: the trunk. What is new is said; the layer called `logits` always is.
    Raises:
        UserError: Nothing fits.
    """
    bundle = open_bundle(source)
    trained, own = load_model(bundle), list(own_variables(model))
    found = {
        id(variable): theirs
        for (_, variable), theirs in zip(own, by_order(trained, model, own) or by_name(trained, own), strict=True)
        if theirs is not None
    }

    anew = last_layers(model, renewed)

    def fitting(layer, variable):
        theirs = found.get(id(variable))
        fits = theirs is not None and id(layer) not in anew and tuple(theirs.shape) == tuple(variable.shape)
        return keras.ops.convert_to_numpy(theirs) if fits else None

    trunk = take_weights(model, fitting, source, sha256(bundle.folder / "model.keras")[:24])
    if trunk is None:
        raise UserError(
            f"--pretrained {source}: a bundle of {bundle.task} whose weights fit nothing of this model; expected the same "
            f"architecture and widths. It was trained with {shown_options(bundle)}"
        )
    return trunk


def take_weights(model, found, source, digest):
    """Assign what is found for the weights of a built model: the layers all of whose weights are, or `None` if nothing is.

    Args:
        model: The model.
        found: Takes a layer and a variable of its own, returns the array it is given, or `None` for one that stays new.
        source, digest: Of the weights, for the record of the run.
    """
    taken, new, trunk = [], [], {}
    for layer, variable in own_variables(model):
        array = found(layer, variable)
        if array is not None:
            variable.assign(array)
        (new if array is None else taken).append(variable.path)
        trunk[id(layer)] = layer, trunk.get(id(layer), (layer, True))[1] and array is not None
    if not taken:
        return None
    say_taken(len(taken), new, source)
    note_trunk(model, source, digest)
    return [layer for layer, whole in trunk.values() if whole]


def say_taken(count, new, source):
    """Say how many weights come from a source, and the paths of the first that are new."""
    more = f"; new: {', '.join(new[:4])}{', ...' if len(new) > 4 else ''}" if new else ""
    say(f"{count} of {count + len(new)} weights from {source}{more}")


def last_layers(model, count):
    """The ids of the last `count` layers with kernels before the one called `logits`, and of all behind them."""
    head = {id(layer) for layer, _ in own_variables(model) if layer.name == HEAD}
    before = [each for each in in_order(model) if each[0].name != HEAD]
    with_kernels = list(dict.fromkeys(id(layer) for layer, variable in before if len(variable.shape) > 1))
    every = list(dict.fromkeys(id(layer) for layer, _ in before))
    if not count:
        return head
    if count >= len(with_kernels):
        raise UserError(f"--renewed {count}: expected fewer than the {len(with_kernels)} layers before the logits")
    return head | set(every[every.index(with_kernels[-count]) :])


def by_name(trained, own):
    """For each of a new model's `(layer, variable)` the variable of the trained model that is called the same, or `None`."""
    known = {}
    for _, variable in own_variables(trained):
        for name in names_of(variable):
            known.setdefault(name, variable)
    return [next((known[name] for name in names_of(variable) if name in known), None) for _, variable in own]


def by_order(trained, model, own):
    """The same of a trained model that owns its objective: by place, if its layers are, kind for kind, the new model's first.

    Such a model is made anew when it is loaded, and Keras then numbers its layers on: names say nothing. All of its layers
    count for a model of its own class, those of its `encoder` for any other. `None` where names are to be asked after all.
    """
    whole = type(trained) is type(model) and not getattr(trained, "outputs", None)
    encoder = trained if whole else getattr(trained, "encoder", None)
    if not isinstance(encoder, keras.Model):
        return None
    source, target = ([each for each in in_order(part) if each[0].name != HEAD] for part in (encoder, model))
    if not source or [kind_of(*each) for each in target[: len(source)]] != [kind_of(*each) for each in source]:
        return None if whole else [None] * len(own)
    found = {id(ours): theirs for (_, ours), (_, theirs) in zip(target, source, strict=False)}
    return [found.get(id(variable)) for _, variable in own]


def in_order(model):
    """`own_variables`, those of models within models in the order of their layers as well."""
    place = {id(variable): index for index, variable in enumerate(model.variables)}
    return sorted(own_variables(model), key=lambda each: place[id(each[1])])


def kind_of(layer, variable):
    return type(layer).__name__, variable.name, len(variable.shape)


def names_of(variable):
    """What a variable may be called: by its path, and by its path without the model it lies in, if a layer is left of it."""
    inner = variable.path.partition("/")[2]
    return (variable.path, inner) if "/" in inner else (variable.path,)


def shown_options(bundle):
    names = ("model", "architecture", "width", "depth", "num_heads", "hidden_dim")
    return ", ".join(f"{name} {bundle.options[name]}" for name in names if bundle.options.get(name) is not None)


def pretrained_facts(model):
    """Tags of a run: where its first weights come from, and their digest."""
    return vars(model).get("_pretrained", {})


def note_trunk(model, source, digest):
    """Say of a model built on another library's network where its weights come from."""
    vars(model)["_pretrained"] = {"pretrained": source, "pretrained_digest": digest}


def note_layers(model, layers, source, digest):
    """The same of a model built on these layers of it, and how many of its weights are theirs."""
    theirs = {id(variable) for layer in layers for variable in layer.variables}
    own = [variable for _, variable in own_variables(model)]
    new = [variable.path for variable in own if id(variable) not in theirs]
    say_taken(len(own) - len(new), new, source)
    note_trunk(model, source, digest)


def trunk_model(option, source, tasks):
    """`(bundle, model, digest)` of a bundle whose network becomes a part of another.

    Args:
        option: What the user gave it by, for a message.
        source: A bundle folder, a run id or `name@alias`.
        tasks: Those that such a network may come from.
    Raises:
        UserError: A network of another library, or a bundle of another task.
    """
    expected = f"expected a bundle of {' or '.join(tasks)} trained here"
    if library_of(source):
        raise UserError(f"{option} {source}: a network of another library; {expected}")
    bundle = open_bundle(source)
    if bundle.task not in tasks:
        raise UserError(f"{option} {source}: a bundle of {bundle.task}; {expected}")
    return bundle, load_model(bundle), sha256(bundle.folder / "model.keras")[:24]
