"""What could not be done the fast way: said once, and counted."""

import collections
import sys

counts = collections.Counter()  # how often, by the line that was said


def note(line):
    """Say this line on standard error, the first time, and count it."""
    if not counts[line]:
        print(line, file=sys.stderr)
    counts[line] += 1
