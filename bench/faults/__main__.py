"""`python -m bench.faults`: every fault is injected, and what was lost is counted.

usage: python -m bench.faults [--backend NAME] [--tries N] [--seconds N] [--only FAULT] [--out FILE] [--list]

  --backend   one of tensorflow, jax, torch; all that are installed
  --tries     tries of each fault on each backend (1)
  --seconds   a fault begins no further try after so long (600)
  --only      faults whose name holds this, for example kill; several, comma-separated
  --first     number of the first try: its moment of a kill follows from it (0)
  --out       also write the table to this file
  --list      print the names of the faults
"""

import sys

from apps.common import backends
from apps.common.errors import UserError
from apps.common.output import table
from apps.common.tokens import read_tokens, whole_number
from bench.faults.run import FAULTS, measure, write_page


def main():
    _, given = read_tokens(sys.argv[1:], {"list", "help"})
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
    limits = {"tries": whole_number(given, "tries", 1), "seconds": whole_number(given, "seconds", 600)}
    rows = measure(chosen, wanted, first=whole_number(given, "first", 0), **limits)
    print(table(rows))
    if "out" in given:
        write_page(given["out"], rows)
    return 1 if any(row["lost"] for row in rows) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"bench.faults: {error}", file=sys.stderr)
        sys.exit(2)
