"""The one error a user can cause, and how its single line is written."""

import difflib


class UserError(Exception):
    """Something the user can mend. Its message is one line: what was wrong, what was expected, what to do."""

    def __str__(self):
        return " ".join(str(self.args[0] if self.args else "").split())


class Diverged(UserError):
    """The loss, or a weight, is not finite any more.

    Args:
        what: What became what, for example `"the loss became nan"`.
        epoch: Number of epochs before this one.
        step: Number of steps of this epoch before the first bad one; `None` where only the epoch is known.
    """

    def __init__(self, what, epoch, step=None):
        super().__init__(f"{what} in epoch {epoch + 1}" + (f", step {step + 1}" if step is not None else ""))
        self.epoch, self.step = epoch, step


def nearest(name, known):
    """A hint `Did you mean 'x'?` for a mistyped name, or the list of known names when none is near."""
    known = [str(each) for each in sorted(known)]
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {close[0]!r}?"
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"Known: {shown}."


def count_skipped(skipped, total, what, limit=0.05):
    """Refuse to start when more than `limit` of the examples cannot be read; otherwise the line that names them.

    Args:
        skipped: Strings `name (reason)`, one for each example left out.
        total: Number of examples found, the skipped among them.
        what: What they are, for example `"images"`.
    Returns: One line counting and naming them, or `None` when nothing was skipped.
    """
    if not skipped:
        return None
    shown = "; ".join(skipped[:5]) + (f"; and {len(skipped) - 5} more" if len(skipped) > 5 else "")
    counted, named = f"{len(skipped)} of {total} {what}", f"cannot be read ({len(skipped) / total:.1%}): {shown}"
    if len(skipped) > limit * total:
        raise UserError(f"{counted} {named}. At most {limit:.0%} may be left out: mend or remove them and start again")
    return f"left out {counted} that {named}"
