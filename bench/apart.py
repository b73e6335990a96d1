"""Raw loops in a process of their own, where the C library deals with memory as the system has it."""

import subprocess
import sys

from bench import raw
from bench.instruments import environment, prepare

UNTOUCHED = {"GLIBC_TUNABLES": "glibc.malloc.check=0"}  # any setting of the user's keeps ours away; this one changes nothing


class Apart:
    """The loops of one family by hand, for `with`; each is `{what the table calls it: run}` of `loops`, as a family's own.

    What is measured here prepares memory for the whole process, and loops beside it gain by that. These do not.

    Args:
        running: Backend.
        name: Family.
    """

    def __init__(self, running, name):
        command = [sys.executable, "-m", "bench.apart", running, name]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        self.process = subprocess.Popen(command, env=environment(UNTOUCHED), **pipes)
        names = self.process.stdout.readline().rstrip("\n").split("\t")
        self.loops = {each: lambda steps, each=each: self._run(each, steps) for each in names if each}

    def _run(self, loop, steps):
        self.process.stdin.write(f"{loop}\t{steps}\n")
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process of the loop {loop!r} ended; its own words are above")
        return float(answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def child(running, name):
    """Print the names of the loops, then the seconds of each line `LOOP\\tSTEPS` that comes in."""
    output = prepare(running)
    family = raw.families()[name]
    loops = family.loops[running](family.setting()[2])
    print("\t".join(loops), file=output, flush=True)
    for line in sys.stdin:
        loop, steps = line.rstrip("\n").split("\t")
        print(loops[loop](int(steps)), file=output, flush=True)


if __name__ == "__main__":
    child(*sys.argv[1:])
