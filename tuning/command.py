"""`triptych tune`: its flags, checked before a backend is imported, and what it prints at the end."""

from dataclasses import dataclass

from apps.common.command import summary as run_summary
from apps.common.errors import UserError, nearest
from apps.common.options.command_line import whole_number
from apps.common.options.declare import options_of
from apps.common.output import shown
from tuning.addresses import address, free, wait_for
from tuning.plan import SEARCHES, Plan
from tuning.space import GRID_LIMIT, Space, read_fixed, read_only

TRIALS = 20
OPEN_EPOCHS = 20  # of a trial, where the app leaves its epochs to the number of examples


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Args:
        data: What `--data` names.
        plan: What is searched, and how; `None` for a worker that joins a chief.
        join: `(host, port)` of the chief to work for, or `None`.
        control: Whether random search runs beside it.
    """

    data: str | None
    plan: Plan | None
    join: tuple | None = None
    control: bool = False


def read(app, flags, given):
    """The `Request` of `triptych tune`'s flags and the options given beside them.

    Raises:
        UserError: Naming the flag, what was expected and what came.
    """
    if "join" in flags:
        return _read_join(flags, given)
    search = flags.get("search", "random")
    if search not in SEARCHES:
        raise UserError(f"--search {search}: expected one of {', '.join(SEARCHES)}. {nearest(search, SEARCHES)}")
    fixed = read_fixed(flags["fix"]) if "fix" in flags else {}
    for name in fixed:
        if name in given and str(given[name]) != fixed[name]:
            raise UserError(f"--fix {name}={fixed[name]}: --{name.replace('_', '-')} {given[name]} says otherwise; leave one out")
    only = read_only(flags["only"]) if "only" in flags else None
    space = Space(app.Config, {**given, **fixed}, only, own=search == "evolution")
    space.check()
    options = options_of(app.Config)
    full = int(space.fixed.get("epochs") or options["epochs"].default or OPEN_EPOCHS)
    epochs = options["epochs"].parse(flags["trial_epochs"]) if "trial_epochs" in flags else full
    trials = whole_number(flags, "trials", None)
    if search == "grid" and trials is None and (size := space.grid_size()) > GRID_LIMIT:
        raise UserError(f"--search grid: the grid has {size} points; give --trials, or fewer options by --only")
    if search in ("random", "bayesian", "evolution"):
        trials = trials or TRIALS
    if "control" in flags and search == "random":
        raise UserError("--control: random search is the control itself; give another --search or leave it out")
    plan = Plan(
        search=search,
        space=space,
        trials=trials,
        epochs=epochs,
        final="no_final" not in flags,
        workers=whole_number(flags, "workers", 0),
        chief=free(address(flags["chief"], "chief")) if "chief" in flags else None,
    )
    return Request(space.fixed.get("data"), plan, control="control" in flags)


def _read_join(flags, given):
    more = sorted({*flags, *given} - {"join", "backend", "data"})
    if more:
        flag = "--" + more[0].replace("_", "-")
        raise UserError(f"--join: the chief's options count; leave out {flag} (--data says where the data lie here)")
    return Request(given.get("data"), None, join=wait_for(address(flags["join"], "join")))


def run(app, request):
    """Do what was asked; returns what `--json` prints."""
    if request.join:
        from tuning.parallel import join

        return join(app, request.join, request.data)
    if request.control:
        from tuning.control import against_random

        return against_random(app, request.plan)
    from tuning.search import Search

    return Search(app, request.plan).run()


def summary(result, table):
    """What a person reads at the end of a search: every trial, the best, and the final model as after any run."""
    if "rows" not in result:
        return f"{result['trials']} trials done for the chief"
    best, objective = result["best"], result["objective"]
    options = " ".join(f"--{name.replace('_', '-')} {_flag(value)}" for name, value in best["options"].items())
    tried = f"{result['configurations']} configurations were tried in {result['trials']} trials; {result['failed']} failed"
    lines = [table(result["rows"]), "", tried, f"best on validation: trial {best['trial']}, {objective} {shown(best[objective])}"]
    control, final = result.get("control"), result["final"]
    if control:
        lines.append(f"random search at equal cost: {objective} {shown(control[objective])} in {control['trials']} trials")
    if final:
        lines.append(run_summary(final))
    else:
        lines += ["", "next:", f"  triptych train {result['task']} {options}", "  triptych ui"]
    return "\n".join(lines)


def _flag(value):
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else "none" if value is None else value
