"""Pictures as files: PNG and GIF that say they were generated, and by what; the way from one picture to another."""

import io
import itertools
from pathlib import Path

import numpy as np

from apps.common.data.examples import evenly_spaced
from apps.common.errors import UserError
from apps.common.files import write_bytes
from apps.common.options.files import plain_name

OWN = {"Software": "triptych"}  # what every picture says that is written here
FRAMES, SMALLEST = 30, 128  # of an animation, and its pixels a side: small pictures are shown larger


def made_folder(name):
    """The folder of `--folder`, made where it is missing."""
    folder = Path(name).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"--folder {folder}: there is a file of that name; name a folder") from None
    return folder


def origin_of(model, about):
    """`{key: text}` that a file says of a generated picture: that it is one, and of which model and run."""
    return {**OWN, "Generated": "yes", "Model": model.name, **getattr(about, "origin", {})}


def write_images(folder, images, names, said=None):
    """PNG files called `names` in a folder that is made where it is missing; returns their paths.

    Args:
        folder: Of the files.
        images: uint8 `(n, height, width, channels)`.
        names: One a picture.
        said: `{key: text}` written into each file: that it was generated, by what, from which seed.
    """
    from PIL import Image

    folder, paths = made_folder(folder), []
    for index, (image, name) in enumerate(zip(images, names, strict=True)):
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        paths.append(write_png(folder / file_name(name, "png"), picture, said[index] if said else {}))
    return paths


def write_png(path, image, said=()):
    """A PNG file that says which program wrote it, in the place of none but one that says so as well; returns its path.

    Args:
        path: In the folder of `--folder`, where a user's own pictures and masks may lie.
        image: Pillow's.
        said: `{key: text}` written into the file.
    Raises:
        UserError: There is another file of that name.
    """
    from PIL.PngImagePlugin import PngInfo

    if path.exists() and not is_own(path):
        raise UserError(f"--folder {path.parent}: {path.name} is there and was not written by predict; name another folder")
    buffer, metadata = io.BytesIO(), PngInfo()
    for key, value in {**OWN, **dict(said)}.items():
        metadata.add_text(key, str(value))
    image.save(buffer, "png", pnginfo=metadata)
    write_bytes(path, buffer.getvalue())
    return path


def is_own(path):
    """Whether a file is a PNG that says it was written here: the words stand before the pixels, however many there are."""
    try:
        with open(path, "rb") as file:
            return b"tEXtSoftware\0triptych" in file.read(4096)
    except OSError:
        return False


def file_name(name, ending):
    return f"{plain_name(name)}.{ending}"


def write_gif(folder, frames, name, said):
    """One animation of pictures `(frames, height, width, channels)`, uint8, that rests at its end; returns its path.

    Args:
        folder, name: As of `write_images`.
        frames: The pictures.
        said: `{key: text}`, which the file holds as its comment.
    """
    from PIL import Image

    times = max(1, -(-SMALLEST // max(frames.shape[1:3])))
    frames = frames.repeat(times, 1).repeat(times, 2)
    pictures = [Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame) for frame in frames]
    buffer, lasting = io.BytesIO(), [80] * (len(pictures) - 1) + [2000]
    comment = "; ".join(f"{key}: {value}" for key, value in said.items()).encode("ascii", "replace")
    pictures[0].save(buffer, "gif", save_all=True, append_images=pictures[1:], duration=lasting, loop=0, comment=comment)
    path = made_folder(folder) / file_name(name, "gif")
    write_bytes(path, buffer.getvalue())
    return path


def denoising(model, latents, conditions, **sampling):
    """How pictures come out of noise: uint8 `(n, frames, height, width, channels)`, the noise first."""
    steps = list(model.trajectory(latents, conditions, **sampling))
    chosen = evenly_spaced(len(steps), FRAMES)
    frames = [np.rint(255 * np.clip(model.pictures(steps[index]), 0, 1)).astype("uint8") for index in chosen]
    return np.stack(frames, 1)


def drawn_rows(model, asked, options, about, sampling):
    """The rows of each thing asked for: a picture a seed, its animation, and the ways between those or from the thing before.

    Args:
        model: The generator.
        asked: `(titles, conditions)`, one for each thing and each of the seeds.
        options: Of `predict`: `seeds`, `folder`, `gif`, `between`; its `names` and `before` last over all parts of a call.
        about: Of the bundle.
        sampling: Arguments of a model that draws in steps.
    """
    from apps.common.reports.generated_images import draw_images, latents_of

    (titles, conditions), seeds = asked, options.seeds
    conditional = bool(model.num_classes or about.get("captions"))
    each = np.tile(seeds, len(titles) // len(seeds)).tolist()
    latents = np.concatenate([latents_of(model, seed, 1) for seed in each])
    origin = origin_of(model, about)
    origin |= {name.capitalize(): value for name, value in sampling.items() if conditional or name != "guidance"}
    said = [{**origin, "Prompt": title, "Seed": seed} for title, seed in zip(titles, each, strict=True)]
    files = [options.names.of_text(title, f"-{seed}") for title, seed in zip(titles, each, strict=True)]
    strips = strips_of(model, titles[:: len(seeds)], conditions[:: len(seeds)] if conditional else None, options, sampling)
    paths = write_images(options.folder, draw_images(model, latents, conditions, **sampling), files, said)
    rows = [{"class": words["Prompt"] if conditional else None, "seed": words["Seed"], "picture": str(path)}
            for words, path in zip(said, paths, strict=True)]  # fmt: skip
    if options.gif:
        frames = denoising(model, latents, conditions if conditional else None, **sampling)
        for row, pictures, name, words in zip(rows, frames, files, said, strict=True):
            row["animation"] = str(write_gif(options.folder, pictures, name, words))
    for place, own in enumerate(strips):
        found = rows[place * len(seeds) : (place + 1) * len(seeds)]
        for name, strip, words in own:
            [path] = write_images(options.folder, strip[None], [options.names.of_text(*name)], [{**origin, **words}])
            found.append({"class": words["Prompt"] if conditional else None, "seed": words["Seed"], "picture": str(path)})
        yield found


def strips_of(model, titles, conditions, options, sampling):
    """The strips that follow the pictures of each title, as `ways` gives them: none, those of its seeds, or the one to it."""
    seeds, count = options.seeds, options.between
    if not count:
        return [[] for _ in titles]
    if len(seeds) > 1:
        found = iter(ways(model, conditions, titles, seeds, count, **sampling))
        return [[next(found) for _ in seeds[1:]] for _ in titles]
    first = not options.before
    if not first:  # the last one of the part before
        title, condition = options.before.pop()
        titles, conditions = [title, *titles], np.concatenate([condition, conditions])
    found = [[strip] for strip in ways(model, conditions, titles, seeds, count, **sampling)]
    options.before.append((titles[-1], conditions[-1:]))
    return [[], *found] if first else found


def ways(model, conditions, titles, seeds, count, **sampling):
    """The ways between pictures, each a strip of `count` between two: `[((text, end) of its name, strip, what is said of it)]`.

    With several seeds the way is from each to the next, of each thing that is drawn; with one, from each text to the next.

    Args:
        model: The generator.
        conditions: A class index or token ids for each title, `None` where it takes neither.
        titles: What is drawn.
        seeds: Whole numbers.
        count: Pictures between the two ends.
        sampling: `steps` and `guidance` of a model that draws in steps.
    """
    from apps.common.reports.generated_images import draw_images, latents_of, spherical

    shares, found = np.linspace(0, 1, count + 2), []
    if len(seeds) > 1:
        ends = {seed: latents_of(model, seed, 1)[0] for seed in seeds}
        for place, title in enumerate(titles):
            labels = None if conditions is None else np.repeat(np.asarray(conditions)[place : place + 1], len(shares), 0)
            for first, second in itertools.pairwise(seeds):
                images = draw_images(model, spherical(ends[first], ends[second], shares), labels, **sampling)
                found.append(((title, f"-{first}-to-{second}"), images, {"Prompt": title, "Seed": f"{first} to {second}"}))
    else:
        noise = np.repeat(latents_of(model, seeds[0], 1), len(shares), 0)
        for first, second in itertools.pairwise(range(len(titles))):
            given = (*(np.repeat(np.asarray(conditions)[end : end + 1], len(shares), 0) for end in (first, second)), shares)
            images = np.rint(255 * model.sample(noise, given, **sampling)).astype("uint8")
            name = f"{titles[first]} to {titles[second]}"
            found.append(((name, f"-{seeds[0]}"), images, {"Prompt": name, "Seed": seeds[0]}))
    return [(name, np.concatenate(list(images), 1), said) for name, images, said in found]


def steps_of(model, conditional, options, count):
    """Arguments of a model that draws in steps, none of another; what it cannot do with `count` inputs is refused."""
    several = count > 1 or options.before
    if options.between and len(options.seeds) < 2 and not (several and getattr(model, "text_encoder", None)):
        raise UserError("--between: give two --seeds or more, or, of a model that draws from captions, two texts and one seed")
    if hasattr(model, "sample"):
        if options.guidance != 1.0 and not conditional:
            raise UserError(f"--guidance {options.guidance:g}: this model has no class and no text to be guided by")
        return {"steps": options.steps, "guidance": options.guidance}
    others = ("--guidance", options.guidance != 1.0), ("--gif", options.gif), ("--steps", options.steps != type(options).steps)
    for flag, given in others:
        if given:
            raise UserError(f"{flag}: this model draws at once, not in steps; leave it out or train one such as --model cflow")
    return {}
