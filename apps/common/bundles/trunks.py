"""What data must know of the trained networks that they are read for: the size of their pictures, the tokens of their texts."""

from apps.common.bundles.bundle import open_bundle
from apps.common.data.examples import About
from apps.common.data.text.prompts import prompts_of
from apps.common.errors import UserError


def picture_shape(source, image_size, side):
    """`(height, width, channels)` of the pictures, those of the bundle `--vision` where one is given.

    Args:
        source: The bundle, or `None`.
        image_size: What the user wants, or `None`.
        side: What it is otherwise.
    """
    if not source:
        return (image_size or side, image_size or side, 3)
    shape = tuple(open_bundle(source).about.get("image_shape") or (side, side, 3))
    if image_size not in (None, shape[0]):
        raise UserError(f"--image-size {image_size}: the network of --vision takes {shape[0]} pixels; leave it out")
    return shape


def prompts_of_bundle(source):
    """`(prompts, tokens seen at once, About)` of the language model `--language`, or of a model that was built on one.

    Raises:
        UserError: A bundle of another task, or one that knows no line breaks.
    """
    bundle = open_bundle(source)
    if bundle.about.get("kind") == "questions":  # one that is evaluated
        taken = {name: bundle.about[name] for name in ("words", "characters") if name in bundle.about}
        return prompts_of(bundle.about), bundle.about["length"], About(taken, bundle.about.files)
    if bundle.task != "text-generation":
        raise UserError(f"--language {source}: a bundle of {bundle.task}; expected one of text-generation trained here")
    about = About({"words": None, "characters": bundle.about["characters"]}, bundle.about.files)
    try:
        return prompts_of(about), bundle.options["block_size"], about
    except ValueError as error:
        raise UserError(f"--language {source}: {error}, which stand between two questions here") from None
