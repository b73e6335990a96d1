"""Examples in memory, their splits, and where named data sets are found."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from apps.common.data import nested
from apps.common.errors import UserError, nearest


@dataclass(frozen=True)
class Examples:
    """Inputs and targets of one split, first axis the example.

    `x` is an array, or a dict, tuple or list of arrays (one a model input), in each other where need be; `y` the same, or
    `None`; `weight` one number an example, or one for each of its positions, for each target its own where `y` is nested.

    A task whose examples are not rows in memory (windows of a text file, one whole graph) brings its own class with
    `__len__` and `take(indices) -> (x,)`, `(x, y)` or `(x, y, weight)`, and where it needs them

    - `fingerprint()`, in the place of a digest of `x` and `y`, and `example_digests(targets)`,
    - `order(generator)`, where an epoch is not a permutation of all,
    - `plan(batch_size, generator=None)`, the batches of an epoch as a list of index arrays, in their order where there is
      no generator; those shorter than `batch_size` are filled up with copies that count nothing; with it
      `kind(indices)`, which says by a number or text which of several shapes a batch has,
    - `set_epoch(epoch)`, where an example changes from epoch to epoch,
    - `ahead`, the number of batches to make ahead of the step that needs them, in a thread.
    """

    x: object
    y: object = None
    weight: object = None

    def __len__(self):
        return len(nested.leaves(self.x)[0])

    def take(self, indices):
        """The batch at these positions, as the tuple that `fit` takes."""
        x, y, weight = (nested.rows(tree, indices) for tree in (self.x, self.y, self.weight))
        batch = (x,) if y is None and weight is None else (x, y)
        return batch if weight is None else (*batch, weight)

    def subset(self, indices):
        """The same kind of examples at these positions only."""
        return Examples(*(*self.take(indices), None, None)[:3])


PICTURE = "PICTURE.png"


@dataclass(frozen=True)
class Data:
    """What `load_data` returns: three splits and `about`, the plain JSON that prediction needs later (see `About`).

    `notes` are lines for the user, `source` names the data, `example` is an input that `triptych predict` takes, as typed, with
    `PICTURE` where the first picture of the test is meant; `remarks` are lines that belong beside the results.
    """

    train: object
    validation: object
    test: object
    about: dict
    notes: list = field(default_factory=list)
    source: str = ""
    example: str = ""
    remarks: list = field(default_factory=list)


class About(dict):
    """The plain JSON of a bundle, and under `files` what is too large for it: `{name: bytes}`, each a file of the bundle.

    A tokenizer is one: `About({"language": "de"}, {"tokenizer.json": content})`. Of a bundle that was opened, `origin` says
    which model it is, `{key: text}`: its run, and the checksum of its file.
    """

    def __init__(self, values=(), files=None, origin=None):
        super().__init__(values)
        self.files, self.origin = dict(files or {}), dict(origin or {})


@dataclass
class Report:
    """What `evaluate` returns: numbers, matplotlib figures and tables (lists of dicts), by name; lines of remarks on them."""

    metrics: dict
    figures: dict = field(default_factory=dict)
    tables: dict = field(default_factory=dict)
    remarks: list = field(default_factory=list)


def balanced(examples, classes):
    """The same examples weighed by how rare their class is.

    Raises:
        UserError: There are no classes.
    """
    if not classes:
        raise UserError("--class-weights balanced: the target is a number, there are no classes to weigh; leave it out")
    return Examples(examples.x, examples.y, class_weights(examples.y, len(classes)))


def class_weights(labels, num_classes):
    """One weight an example, inversely to its class's share and of mean one: n / (classes * count of the class).

    A class without examples counts for nothing.
    """
    counts = np.bincount(labels, minlength=num_classes)
    return (len(labels) / ((counts > 0).sum() * counts[labels])).astype("float32")


def find_data(name, flag="--data"):
    """The path behind `--data NAME`: the path itself, or the data set of that name under `$TRIPTYCH_DATA`.

    Args:
        name: Of the file, folder or data set.
        flag: The option it was given by, for a message.
    Raises:
        UserError: Nothing is there, naming the nearest data set.
    """
    try:
        path = Path(name).expanduser()
        there = path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # longer than a name may be, of nobody's home, a NUL in it
        raise UserError(f"{flag} {str(name)[:60]}: cannot be a path ({error!s:.80}). Give the path of a file or folder") from None
    if there and not (path.is_file() or path.is_dir()):
        raise UserError(f"{flag} {name}: a device or a pipe; expected a file or a folder")
    if there:
        return path
    root = os.environ.get("TRIPTYCH_DATA")
    if root and (Path(root) / name).exists():
        return Path(root) / name
    if flag != "--data":
        raise UserError(f"{flag} {name}: no such file or folder; give the path of one")
    known = sorted(entry.name for entry in Path(root).iterdir()) if root and Path(root).is_dir() else []
    hint = nearest(name, known) if known else "Set TRIPTYCH_DATA to a folder of data sets to use them by name."
    raise UserError(f"--data {name}: no such file or folder. {hint}")


def evenly_spaced(count, most):
    """The positions of `count` examples, at most `most` of them, evenly apart from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))


def evenly(rows, most):
    """At most so many rows of an array, evenly from its first to its last: data often lie class by class."""
    return rows if len(rows) <= most else rows[evenly_spaced(len(rows), most)]


def split_indices(labels, fractions, seed, stratify=True):
    """Shuffled positions split by `fractions`; with `stratify` every class keeps its share in each part.

    Args:
        labels: Array of shape `(examples,)`; used for its length alone without `stratify`.
        fractions: Share of each part but the first, which takes the rest; for example `(0.1, 0.2)`.
        seed: Seed of the shuffle.
    Returns: One sorted index array a part. A class with as many examples as parts has one in each.
    """
    generator = np.random.default_rng([seed, 20])
    groups = [np.arange(len(labels))]
    if stratify:
        labels = np.asarray(labels)
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    parts = [[] for _ in range(len(fractions) + 1)]
    for group in groups:
        group = generator.permutation(group)
        start = 0
        for part, fraction in zip(parts[1:], fractions, strict=True):
            count = round(fraction * len(group))
            if fraction > 0 and len(group) > len(fractions):
                count = max(1, count)
            part.append(group[start : start + count])
            start += count
        parts[0].append(group[start:])
    return [np.sort(np.concatenate(part)) for part in parts]


def fold_indices(labels, folds, fold, seed, stratify=True):
    """Positions inside and outside of fold number `fold` of `folds`, stratified by label: `(rest, inside)`."""
    generator = np.random.default_rng([seed, 21])
    order = generator.permutation(len(labels))
    if stratify:
        labels = np.asarray(labels)
        order = order[np.argsort(labels[order], kind="stable")]
    member = np.empty(len(labels), dtype=int)
    member[order] = np.arange(len(labels)) % folds
    return np.flatnonzero(member != fold), np.flatnonzero(member == fold)


def scored_part(splits, notes):
    """Of the splits of other data the one that a trained model is scored on: test, else validation, else train.

    Args:
        splits: `{split: its examples}`, of any kind.
        notes: List to which a line is added where there are several.
    """
    name, *others = (each for each in ("test", "validation", "train") if each in splits)
    if others:
        notes.append(f"the {name} part is scored; not used: {', '.join(others)}")
    return splits[name]


def complete_splits(splits, config, notes, *, stratify=True, validation=0.1, test=0.15):
    """Train, validation and test: as the data name them, and what they do not name taken by the seed, stratified.

    With `config.folds` the test split is fold number `config.fold` of all the examples instead.

    Args:
        splits: `{"train": Examples, "validation": ..., "test": ...}`; all but the first may be missing.
        config: Has `seed`, `folds` and `fold`.
        notes: List to which a line is added where something was decided.
        stratify: Whether `y` holds classes whose shares are kept.
        validation, test: Shares taken where the data name none.
    Returns: Three `Examples`.
    Raises:
        UserError: There is nothing to train on, a split has no example, or `--folds` is given for data with splits.
    """
    if "train" not in splits:
        raise UserError(f"the data name no train split, only {' and '.join(splits)}; call what is to be trained on train")
    train, held, tested = splits["train"], splits.get("validation"), splits.get("test")

    def labels():
        return train.y if stratify else range(len(train))

    if config.folds:
        if held is not None or tested is not None:
            raise UserError("--folds: the data name their own splits already; leave it out or give one file without splits")
        rest, inside = fold_indices(labels(), config.folds, config.fold, config.seed, stratify)
        train, tested = train.subset(rest), train.subset(inside)
    if tested is None and held is not None:
        notes.append("the data name no test split: their validation split is the test, validation is taken from train")
        held, tested = None, held
    if tested is None:
        rest, inside = split_indices(labels(), (test,), config.seed, stratify)
        train, tested = train.subset(rest), train.subset(inside)
    if held is None:
        rest, inside = split_indices(labels(), (validation,), config.seed, stratify)
        if not len(inside):  # classes of so few examples that none has one to spare
            rest, inside = split_indices(labels(), (validation,), config.seed, stratify=False)
        train, held = train.subset(rest), train.subset(inside)
    for name, part in (("train", train), ("validation", held), ("test", tested)):
        if not len(part):
            count = len(train) + len(held) + len(tested)
            raise UserError(f"the {name} split is empty: more examples are needed than {count} to train, validate and test")
    notes.append(f"{len(train)} examples to train on, {len(held)} for validation, {len(tested)} for the test")
    return train, held, tested
