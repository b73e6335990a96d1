"""A training set enlarged by pictures that a generator trained before draws of its classes."""

from dataclasses import dataclass

import numpy as np

from apps.common.bundles.bundle import load_model, open_bundle
from apps.common.data.examples import Examples
from apps.common.data.fingerprint import digest, known_again
from apps.common.data.images.arrays import resize_images
from apps.common.data.images.captioned import encode, text_of
from apps.common.errors import UserError
from apps.common.files import sha256
from apps.common.reports.generated_images import draw_images, latents_of

STEPS = 25  # of a generator that draws in steps


@dataclass(frozen=True)
class Enlarged(Examples):
    """Examples some of which were drawn.

    They are known by the real ones and by what drew the others, whose pixels may differ by one from backend to backend.
    """

    known: str = ""

    def fingerprint(self):
        return self.known


def with_generated(data, source, times, seed):
    """`(training examples, line that says so)`: the same ones and, of each class, `times` as many that the generator draws.

    Args:
        data: `Data` whose training examples are uint8 pictures and class indices.
        source: Bundle of image-generation.
        times: Generated pictures to each real one.
        seed: Of the drawing.
    Raises:
        UserError: The generator is unconditional, or does not know one of these by name.
    """
    bundle = open_bundle(source, "image-generation")
    about, names, train = bundle.about, data.about["class_names"], data.train
    captions = bundle.about.get("captions")
    asked = [text_of(name) for name in names] if captions else names
    model = load_model(bundle)
    if not captions and not model.num_classes:
        reason = f"it cannot be asked for a class ({bundle.options['model']}); train one such as --model cvae"
        raise UserError(f"--augment-with {source}: {reason}")
    unknown = [name for name, wanted in zip(names, asked, strict=True) if wanted not in about["class_names"]]
    if unknown:
        more = ", ..." if len(about["class_names"]) > 10 else ""
        known = ", ".join(about["class_names"][:10]) + more
        raise UserError(f"--augment-with {source}: it knows no class {', '.join(unknown[:5])}; it draws {known}")
    counts = np.rint(times * np.bincount(train.y, minlength=len(names))).astype(int)
    labels = np.repeat(np.arange(len(names)), counts)
    if not len(labels):
        raise UserError(f"--augment-times {times:g}: not one picture to {len(train)} of your own; give more")
    place = np.array([about["class_names"].index(name) for name in asked])
    conditions = encode([asked[label] for label in labels], about["words"], about["length"]) if captions else place[labels]
    steps = {"steps": STEPS} if hasattr(model, "sample") else {}
    images = draw_images(model, latents_of(model, [seed, 70], len(labels)), conditions, **steps)
    shape, drawn = tuple(train.x.shape[1:]), images.shape[1:]
    resized = "" if drawn == shape else f", made {' x '.join(map(str, shape))} from {' x '.join(map(str, drawn))}"
    x, y = np.concatenate([train.x, resize_images(images, shape, source)]), np.concatenate([train.y, labels])
    known = digest(train.x, train.y, np.array([sha256(bundle.folder / "model.keras"), str(times), str(seed)]))
    note = f"{len(labels)} pictures drawn by {source} added to {len(train)} of your own{resized}"
    return Enlarged(x, y.astype(train.y.dtype), None, known), note


def seen_by_generator(data, source):
    """A line that counts the test and validation pictures that the generator was trained on, where there are any.

    They are known by the digests in its bundle, so only at the size in which it was trained on them. Pictures that both validate
    on choose epochs and are no leak; those of the test should have done nothing.

    Args:
        data: `Data` of which the generator draws the classes, as `with_generated` takes them.
        source: Bundle of image-generation.
    """
    bundle = open_bundle(source, "image-generation")
    about, names, known = bundle.about, data.about["class_names"], bundle.digests()
    if "train" not in known:
        return []
    asked = [text_of(name) for name in names] if about.get("captions") else names
    place = np.array([about["class_names"].index(name) for name in asked])
    counted, seen = [], {"test": ("train", "validation"), "validation": ("train",)}
    for split, examples in (("test", data.test), ("validation", data.validation)):
        labels = place[examples.y].astype(examples.y.dtype)
        if about.get("captions"):
            labels = {"label": labels, "text": encode(asked, about["words"], about["length"])[examples.y]}
        among = np.concatenate([known[name] for name in seen[split] if name in known])
        count = known_again(Examples(examples.x, labels), among).sum()
        counted += [f"{count} of {len(examples)} {split} pictures"] if count else []
    if not counted:
        return []
    advice = "train it with the same --data and --seed as the classifier"
    return [f"{source} was trained on {' and '.join(counted)} of this run, whose numbers flatter; {advice}"]
