"""Which classes the values or colours of masks stand for."""

import re
from dataclasses import dataclass, replace

import numpy as np

from apps.common.data.images.decoding import Unreadable, open_image
from apps.common.data.images.mask_lists import read_list
from apps.common.errors import UserError, nearest

IGNORED = 255  # in our own masks: a pixel that counts nothing
AUTO = "auto"
NOWHERE = -1  # the value of a trained model's class that the list of other masks does not name
MOST = 250
MANY = 0.1  # share of ignored pixels above which a user should look; CamVid has .03


@dataclass(frozen=True)
class Classes:
    """The classes of some masks.

    Args:
        names: One a class.
        values: What each class is in a mask: a label, or a colour as `65536 r + 256 g + b`.
        coloured: Whether values are colours.
        ignored: The value that counts nothing, or `None`.
        colors: `(r, g, b)` a class, for pictures of masks.
    """

    names: tuple
    values: tuple
    coloured: bool
    ignored: int | None
    colors: tuple

    def completed(self, found, notes, path, *, free=False):
        """The same with the values that training masks hold, where no list of classes says what there is.

        Args:
            found: The `Values` of these masks.
            notes: List to which a line is added where something was decided.
            path: Of the data, for messages.
            free: Whether `ignored` is the usual label, which no one asked for.
        Raises:
            UserError: They hold one class, too many, or smoothed edges.
        """
        if self.names:
            return self
        values, ignored = found.values.tolist(), self.ignored
        kept = [value for value in values if value != ignored]
        if not self.coloured and ignored in values and ((len(values) == 2) or (free and _are_greys(kept, ignored))):
            both = f"{values[0]} and {values[1]}: both are" if len(values) == 2 else f"{_listed(values)}, as greys lie: all are"
            notes.append(f"masks hold {both} classes, none is ignored")
            kept, ignored = values, None
        if len(kept) < 2:
            single = self.shown(kept[0]) if kept else "none"
            raise UserError(f"{path}: the masks hold a single class ({single}). Expected two or more")
        what = "colours" if self.coloured else "labels"
        edges = found.edges()
        if edges.any():
            first = _listed(map(self.shown, found.values[edges].tolist()))
            raise UserError(
                f"{path}: {edges.sum()} of the {len(values)} {what} in the masks lie along edges only ({first}), on "
                f"{found.share(edges):.1%} of the pixels. Save masks as PNG, without smoothed edges, or list the classes"
            )
        if len(kept) > MOST:
            raise UserError(
                f"{path}: the masks hold {len(kept)} different {what}. Expected at most {MOST} classes: save masks as PNG, "
                "without smoothed edges"
            )
        names = tuple(self.shown(value) if self.coloured else f"class {value}" for value in kept)
        return replace(self, names=names, values=tuple(kept), ignored=ignored, colors=self._colors(kept))

    def ignored_line(self, found, trained):
        """How many pixels count nothing, loudly where they are many, as a line; `""` where there are none.

        Args:
            found: The `Values` of all masks.
            trained: Whether they are to evaluate a trained model.
        """
        share = found.share(~np.isin(found.values, self.values))
        what = f"{'colour' if self.coloured else 'label'} {self.shown(self.ignored)}" if share else ""
        line = f"{max(share, 0.001):.1%} of the pixels are {what} and count nothing"
        if share < MANY:
            return f"{line} (--ignore)" if share else ""
        values = [value for value in self.values if value != NOWHERE]
        there = ", ".join(map(self.shown, values[:12])) + (", ..." if values[12:] else "")
        advice = f"what the model knows is {there}" if trained else "if they are a class, train with --ignore none"
        return f"beware: {line}, in no score either (--ignore); {advice}"

    def _colors(self, values):
        if self.coloured:
            return tuple((value >> 16, value >> 8 & 255, value & 255) for value in values)
        return tuple(palette(max(values) + 1)[value] if value < 256 else (128, 128, 128) for value in values)

    def shown(self, value):
        return f"#{value:06x}" if self.coloured else str(value)

    def refuse_unknown(self, values, name):
        """Refuse a mask with a value that is no class.

        Raises:
            UserError: Naming the first one.
        """
        known = {*self.values, self.ignored}
        unknown = [value for value in values.tolist() if value not in known]
        if unknown:
            what = "colour" if self.coloured else "label"
            listed = [f"{self.shown(v)} {n}" for v, n in zip(self.values, self.names, strict=True) if v != NOWHERE]
            there = ", ".join(listed[:12]) + (", ..." if listed[12:] else "")
            raise UserError(
                f"{name}: {what} {self.shown(unknown[0])} is no class of the training masks or of the list of classes ({there}"
                "). Add it there, or name it with --ignore"
            )

    def positions(self, raw):
        """A raw mask as uint8 positions in the classes, `IGNORED` where it counts nothing."""
        order = np.argsort(self.values)
        keys = np.array(self.values)[order]
        places = np.clip(np.searchsorted(keys, raw), 0, len(keys) - 1)
        return np.where(keys[places] == raw, order[places], IGNORED).astype("uint8")

    def to_json(self):
        return {"class_names": list(self.names), "values": list(self.values), "coloured": self.coloured,
                "ignored": self.ignored, "colors": [list(color) for color in self.colors]}  # fmt: skip

    @staticmethod
    def of_json(about):
        return Classes(tuple(about["class_names"]), tuple(about["values"]), about["coloured"], about["ignored"],
                       tuple(tuple(color) for color in about["colors"]))  # fmt: skip


def palette(count):
    """Colours that are easily told apart, the first black: PASCAL VOC's (each bit of a number to a bit of red, green, blue)."""
    colors = []
    for number in range(count):
        red = green = blue = 0
        rest = number
        for bit in range(7, -1, -1):
            red |= (rest & 1) << bit
            green |= (rest >> 1 & 1) << bit
            blue |= (rest >> 2 & 1) << bit
            rest >>= 3
        colors.append((red, green, blue))
    return colors


def _listed(values):
    """The first of some values, as text."""
    values = list(map(str, values))
    return ", ".join(values[:5]) + (", ..." if values[5:] else "")


def _are_greys(labels, white):
    """Whether `white` is the lightest of greys that lie apart (0, 127, 255), not a mark beside small labels (0, 15, 255)."""
    gaps = np.diff(labels)
    return len(gaps) > 0 and labels[-1] < white and gaps.min() >= 8 and white - labels[-1] <= 2 * gaps.max()


def choose_classes(folder, pairs, class_names, ignore, notes, coloured=False):
    """`Classes` as options, the folder's list or COCO name them; without names where the masks themselves must say.

    Args:
        folder: Where a list of classes may lie.
        pairs: Pictures with masks.
        class_names: Names of the labels 0, 1, ..., or none.
        ignore: Label, colour or class that counts nothing, as text, `"auto"` for the usual label, or `None`.
        notes: List to which a line is added where something was decided.
        coloured: Whether masks are colours where no list of classes says so, however they look.
    """
    names, colors = (tuple(class_names), ()) if class_names else read_list(folder, notes)
    coloured = bool(colors) or (not names and (coloured or _are_coloured(pairs)))
    values = tuple(65536 * red + 256 * green + blue for red, green, blue in colors) or tuple(range(len(names)))
    ignored = _ignored(ignore, names, values, coloured)
    kept = [place for place, value in enumerate(values) if value != ignored]
    chosen = palette(len(values))
    made = [(names[place], values[place], colors[place] if colors else chosen[place]) for place in kept]
    names, values, colors = zip(*made, strict=True) if made else ((), (), ())
    if len(names) > MOST or len(names) == 1:
        raise UserError(f"{folder}: {len(names)} classes. Expected 2 to {MOST}")
    return Classes(names, values, coloured, ignored, colors)


def listed_anew(classes, folder, ignore, notes):
    """A trained model's `Classes` with the labels or colours that the list of another folder gives them, by their names.

    A folder without a list, or with one that names none of them, has the labels that were trained on.

    Args:
        classes: `Classes` of the model.
        folder: Of the masks.
        ignore: As of `choose_classes`, of the training.
        notes: List to which a line is added where values are others than those trained on.
    """
    names, colors = read_list(folder, notes)
    values = [65536 * red + 256 * green + blue for red, green, blue in colors] or list(range(len(names)))
    listed = {name.lower(): value for name, value in zip(names, values, strict=True)}
    own = tuple(listed.get(name.lower(), NOWHERE) for name in classes.names)
    coloured, ignored = bool(colors), classes.ignored
    if all(value == NOWHERE for value in own) or (own, coloured) == (classes.values, classes.coloured):
        return classes
    if ignore and ignore.lower() in listed:
        ignored = listed[ignore.lower()]
    elif coloured != classes.coloured:  # a label says nothing of colours
        ignored = None if coloured or not ignore else IGNORED
    notes.append("masks are read by this folder's list of classes, which has other values for them than the training's")
    return replace(classes, values=own, coloured=coloured, ignored=None if ignored in own else ignored)


def _ignored(ignore, names, values, coloured):
    text = (ignore or "").strip()
    if not text:
        return None
    if text == AUTO:
        return None if coloured else IGNORED
    if text in names:
        return values[names.index(text)]
    if re.fullmatch(r"#[0-9a-fA-F]{6}", text) and coloured:
        return int(text[1:], 16)
    if text.isdecimal():
        return None if coloured else int(text)
    expected = "a colour such as #000000" if coloured else "a label such as 255"
    raise UserError(f"--ignore {text}: expected {expected}, or the name of a class. {nearest(text, names) if names else ''}")


def _are_coloured(pairs):
    """Whether the masks are colours: RGB, and not grey all of them."""
    for pair in pairs:
        try:
            with open_image(pair.mask) as image:
                if image.mode not in ("RGB", "RGBA"):
                    return False
                pixels = np.asarray(image.convert("RGB"))
                if not (pixels[..., :1] == pixels).all():
                    return True
        except (Unreadable, OSError):
            continue
    return False
