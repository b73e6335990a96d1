"""Pictures as files: PNG and GIF that say they were generated, and by what; the way from one picture to another."""

import io
import itertools
from collections import Counter
from pathlib import Path

import numpy as np

from apps.common.data.examples import evenly_spaced
from apps.common.errors import UserError
from apps.common.files import write_bytes

FRAMES, SMALLEST = 30, 128  # of an animation, and its pixels a side: small pictures are shown larger
LONGEST = 100  # bytes of a text in the name of a file, of which file systems take 255


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
    return {"Software": "triptych", "Generated": "yes", "Model": model.name, **getattr(about, "origin", {})}


def write_images(folder, images, names, said=None):
    """PNG files called `names` in a folder that is made where it is missing; returns their paths.

    Args:
        folder: Of the files.
        images: uint8 `(n, height, width, channels)`.
        names: One a picture.
        said: `{key: text}` written into each file: that it was generated, by what, from which seed.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    folder, paths = made_folder(folder), []
    for index, (image, name) in enumerate(zip(images, names, strict=True)):
        buffer, metadata = io.BytesIO(), PngInfo()
        for key, value in (said[index] if said else {}).items():
            metadata.add_text(key, str(value))
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "png", pnginfo=metadata)
        paths.append(folder / file_name(name, "png"))
        write_bytes(paths[-1], buffer.getvalue())
    return paths


def file_name(name, ending):
    return f"{plain_name(name)}.{ending}"


def plain_name(name):
    """The name with `_` for each character that may mean something in a path."""
    return "".join(c if c.isalnum() or c in "-_ " else "_" for c in name)


class FileNames:
    """A name for what is made of each input of a call, which come a few hundred at a time: no two inputs share one.

    Args:
        folders: Whether the name of a file's folder stands before its own.
    """

    def __init__(self, folders=False):
        self.folders, self.names, self.taken, self.counts = folders, {}, set(), Counter()

    def of(self, path):
        """The file's own name without the ending, and a number where that is another file's already."""
        path = Path(path)
        return self.unlike_others(path, "-".join(filter(None, (path.parent.name if self.folders else "", path.stem))))

    def of_text(self, text, end=""):
        """A text and `end` behind it, and a number between them where that is another text's already."""
        return self.unlike_others((text, end), text, end)

    def unlike_others(self, key, text, end=""):
        """The name of what `key` is; of a long text the first `LONGEST` bytes."""
        if key not in self.names:
            start = plain_name(text).encode()[:LONGEST].decode(errors="ignore")
            name = first = start + end
            while name.lower() in self.taken:  # some file systems do not tell A from a
                self.counts[first] += 1
                name = f"{start}-{self.counts[first] + 1}{end}"
            self.taken.add(name.lower())
            self.names[key] = name
        return self.names[key]


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
    Raises:
        UserError: There is no way: one seed only, and no two texts.
    """
    from apps.common.reports.generated_images import draw_images, latents_of, spherical

    shares, found = np.linspace(0, 1, count + 2), []
    text = getattr(model, "text_encoder", None) is not None
    if len(seeds) < 2 and not (text and len(titles) > 1):
        raise UserError("--between: give two --seeds or more, or, of a model that draws from captions, two texts and one seed")
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


def steps_of(model, conditional, options):
    """Arguments of a model that draws in steps, none of another; what it cannot do is refused."""
    if hasattr(model, "sample"):
        if options.guidance != 1.0 and not conditional:
            raise UserError(f"--guidance {options.guidance:g}: this model has no class and no text to be guided by")
        return {"steps": options.steps, "guidance": options.guidance}
    others = ("--guidance", options.guidance != 1.0), ("--gif", options.gif), ("--steps", options.steps != type(options).steps)
    for flag, given in others:
        if given:
            raise UserError(f"{flag}: this model draws at once, not in steps; leave it out or train one such as --model cflow")
    return {}
