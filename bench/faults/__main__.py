"""`python -m bench.faults`: every fault is injected, and what was lost is counted.

usage: python -m bench.faults [--backend NAME] [--tries N] [--seconds N] [--only FAULT] [--out FILE] [--afresh] [--list]

  --backend   one of tensorflow, jax, torch; all that are installed
  --tries     tries of each fault on each backend, those already in the record among them (1)
  --seconds   a fault begins no further try after so long (600)
  --only      faults whose name holds this, for example kill; several, comma-separated
  --first     number of the first try: its moment of a kill follows from it (0)
  --out       page to write after every try, for example docs/faults.md; the counts are kept beside it, as .json, and a
              later call (of another backend, say, also at the same time) adds to them
  --afresh    forget what the record has of these faults on these backends
  --list      print the names of the faults
"""

import sys

from apps.common.errors import UserError
from apps.common.options import backends
from apps.common.options.command_line import read_command_line, whole_number
from apps.common.output import table
from bench.faults.record import Record
from bench.faults.run import FAULTS, measure


def main():
    _, given = read_command_line(sys.argv[1:], {"list", "help", "afresh"})
    if "help" in given:
        print(__doc__.strip())
        return 0
    words = [word.strip() for word in str(given.get("only", "")).split(",")]
    chosen = [fault for fault in FAULTS if any(word in fault.name for word in words)]
    if not chosen:
        raise UserError(f"--only {given['only']}: no fault is called so. See python -m bench.faults --list")
    if "list" in given:
        print("\n".join(fault.name for fault in chosen))
        return 0
    wanted = [backends.choose(given["backend"])] if "backend" in given else backends.installed()
    record = Record([fault.name for fault in FAULTS], given.get("out"))
    if "afresh" in given:
        for fault in chosen:
            for backend in ["any"] if fault.once else wanted:
                record.forget(fault.name, backend)
    limits = {"tries": whole_number(given, "tries", 1), "seconds": whole_number(given, "seconds", 600)}
    measure(chosen, wanted, record, first=whole_number(given, "first", 0), **limits)
    rows = record.table([fault.name for fault in chosen], wanted)
    print(table(rows))
    return 1 if any(row["lost"] for row in rows) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"bench.faults: {error}", file=sys.stderr)
        sys.exit(2)
