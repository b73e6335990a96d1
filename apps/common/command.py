"""What every command shares: exit codes, one line for a user's error, one JSON object or a text; and `train`, which an app
runs by itself as well (`python -m apps.tabular --epochs 3`)."""

import atexit
import contextlib
import errno
import os
import signal
import sys
import threading
from pathlib import Path

from apps.common.app import checked, task_name
from apps.common.data.ahead import read_ahead
from apps.common.errors import UserError, nearest
from apps.common.options import backends
from apps.common.options.command_line import read_command_line, settle_switches
from apps.common.options.declare import make_config, options_of
from apps.common.output import print_json, shown
from apps.common.records.folder import Run
from apps.common.training.interrupts import stop_at_once, swallowed

FLAGS = {"json": "standard output is exactly one JSON object", "help": "show this help"}
BACKEND = {"backend": "tensorflow, jax, torch or auto (measures and takes the fastest); else KERAS_BACKEND"}
SWITCHES = {"json", "help", "find_lr", "no_final", "control"}
TRAIN = {
    **BACKEND,
    "recipe": "take the options of a published setting",
    "resume": "go on with a run: its id or last",
    "find_lr": "measure a good learning rate and draw its curve instead of training",
}


def answered(command):
    """Run `command()`, whose result is an exit code; what a user can cause ends in one line and 2."""
    try:
        with terminable():
            return command()
    except UserError as error:
        print(f"triptych: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT):
            print(f"triptych: {error.filename or 'disk'}: {error.strerror}. Free some space or choose a folder you may "
                  "write; nothing was left half-written", file=sys.stderr)  # fmt: skip
            return 2
        if error.errno == errno.EPIPE:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        raise
    except KeyboardInterrupt:
        return 130
    except SystemExit as stopped:
        return stopped.code


def run_and_leave(command):
    """Run `command()` and end the process with the exit code it returns, as soon as what others registered for the end is done.

    Python would then take one to two seconds to free what a backend holds, piece by piece, before the prompt is back.
    """
    codes = []

    def leave():
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        if codes:  # else an exception ends the program, with its traceback and its code
            os._exit(codes[0] if isinstance(codes[0], int) else int(bool(codes[0])))

    atexit.register(leave)  # first of all, so that it is called last
    codes.append(command())
    sys.exit(codes[0])


@contextlib.contextmanager
def terminable():
    """SIGTERM ends the program by an exception, with exit code 143, also while Keras or the data are still being read."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop_at_once)
    before, sys.unraisablehook = sys.unraisablehook, swallowed
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.unraisablehook = before


def show(result, as_json):
    """Print what a command returned: `(object for --json, text for people)`."""
    value, text = result
    if as_json:
        print_json(value)
    elif text:
        print(text)
    return 0


def check_flags(command, given, known, more=()):
    """Refuse an option that `command` does not have (nor is among the flags `more`), and one that lacks its value.

    Args:
        command: Its name.
        given: `{option: text, or True}`.
        known: `{option: what it does}` of the command.
        more: Further flags to suggest from.
    """
    known = {**known, **FLAGS}
    for name, value in given.items():
        flag = "--" + name.replace("_", "-")
        if name not in known:
            flags = [*more, *("--" + each.replace("_", "-") for each in known)]
            raise UserError(f"unknown option {flag} of {command}. {nearest(flag, flags)} See triptych {command} --help")
        if name not in SWITCHES and (value is True or not str(value).strip()):
            raise UserError(f"{flag}: a value is missing; expected {known[name]}")


def start(spec):
    """Make `python -m apps.NAME --epochs 3` the same as `triptych train NAME --epochs 3`."""
    app = checked(sys.modules["__main__"])
    positionals, given = read_command_line(sys.argv[1:], SWITCHES)

    def command():
        if positionals:
            raise UserError(f"{task_name(app)}: expected options alone. Received: {positionals[0]}")
        if given.pop("help", False):
            from apps.common.options.command_line import options_help

            print("\n".join([app.__doc__.strip().splitlines()[0], "", *options_help(app.Config)]))
            return 0
        as_json = given.pop("json", False)
        with contextlib.redirect_stdout(sys.stderr):
            result = train(app, given)
        return show(result, as_json)

    run_and_leave(lambda: answered(command))


def train(app, given):
    """`triptych train`: `(result, text)` of the options `{name: text}` given for this app, `TRAIN`'s own among them."""
    task, options = task_name(app), options_of(app.Config)
    flags = {name: given.pop(name) for name in TRAIN if name in given}
    check_flags("train", flags, TRAIN)
    if "resume" in flags and "find_lr" in flags:
        raise UserError("--find-lr does nothing with --resume: a run that is gone on with has its rate; leave one out")
    given, first = settle_switches(given, options), {}
    if "recipe" in flags:
        if flags["recipe"] not in app.RECIPES:
            known = nearest(flags["recipe"], app.RECIPES)
            raise UserError(f"--recipe {flags['recipe']}: no such recipe of {task}. {known}")
        recipe = app.RECIPES[flags["recipe"]]
        first = run_before(recipe, given)
        given = {"data": recipe.data, **recipe.options, **given}
    later = {"pretrained": "the run before"} if first else {}
    config = make_config(app.Config, {**given, **later})
    if config.data is not None and "resume" not in flags:
        check_data(app, config.data)
    backend = flags.get("backend")
    if backend == "auto":
        from apps.common.training.auto import fastest

        backend, measured = fastest(app, task, first or given, settled="resume" in flags)
        given = {**given, "compile": measured["compile"]} if "compile" in measured else given
        config = make_config(app.Config, {**given, **later})
    backend = backends.choose(backend)
    if not first and not getattr(config, "pretrained", None) and "resume" not in flags and "find_lr" not in flags:
        os.environ["KERAS_BACKEND"] = backend  # also where an app imports Keras to read its data
        read_ahead(app, config)
    backends.prepare(backend)
    from apps.common.training import run

    before = None
    if first and "resume" not in flags:
        before = run.train(app, make_config(app.Config, first), given=tuple(first))
        given = {**given, "pretrained": before["model"]}
        config = make_config(app.Config, given)

    if "find_lr" in flags:
        found = run.find_rate(app, config)
        return found, f"suggested --learning-rate {found['suggestion']:.2g}; curve: {found['figure']}"
    tags = {"recipe": flags["recipe"]} if "recipe" in flags else {}
    result = run.train(app, config, resume=flags.get("resume"), given=tuple(given), tags=tags)
    if before:
        result |= {"first": before["metrics"], "seconds": round(before["seconds"] + result["seconds"], 3)}
    return result, summary(result)


def run_before(recipe, given):
    """The options of the run whose bundle a recipe begins with; none where there is none, or the user names a bundle."""
    if not recipe.first or "pretrained" in given:
        return {}
    return {"data": recipe.data, **recipe.first, **{name: given[name] for name in ("data", "seed") if name in given}}


def check_data(app, name):
    """Refuse a `--data NAME` that cannot be, before a backend is imported."""
    getattr(app, "check_data", check_path)(name)


def check_path(name):
    """A path that is meant as one and is not there is an error before anything is imported."""
    try:
        there = Path(name).expanduser().exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"--data {name[:60]}: cannot be a path ({error!s:.80}). Give the path of a file or folder") from None
    if ("/" in name or name.startswith((".", "~"))) and not there:
        root = os.environ.get("TRIPTYCH_DATA")
        if not (root and (Path(root) / name).exists()):
            raise UserError(f"--data {name}: no such file or folder. Give a path that is there, or the name of a known set")


def summary(result, other=None):
    """What a person reads at the end of a run: numbers, what a careful colleague would say, where it is, what to do next.

    Args:
        result: Of `train` or `evaluate`.
        other: Data that are not those of the training: what was said of these, and their baselines, does not hold there.
    """
    beside = {}
    with contextlib.suppress(OSError, ValueError):
        beside = Run(result["run_id"]).record.get("beside") or {}
    if other:
        beside = {name: beside.get(name) for name in ("best_epoch", "epochs")}
    measured = f"metrics on {other}" if other else "test metrics"
    lines = ["", f"{measured} ({result['task']} on {result['backend']}, {result['seconds']:.0f} s):"]
    others = beside.get("baselines") or {}
    width = max([24, *(len(name) for name in result["metrics"])])
    if others:
        lines.append(f"  {'':{width}} {'ours':12}" + "".join(f" {name:>20}" for name in others))
    for name, value in result["metrics"].items():
        cells = "".join(f" {shown(each[name]) if name in each else '':>20}" for each in others.values())
        lines.append(f"  {name:{width}} {shown(value):12}{cells}".rstrip())
    if beside.get("best_epoch"):
        lines.append(f"weights of epoch {beside['best_epoch']} of {beside['epochs']}, the best on validation")
    lines += beside.get("remarks", [])
    if other:
        return "\n".join([*lines, f"bundle: {result['model']}"])
    model, task = result["model"], result["task"]
    example = beside.get("example") or "INPUT ..."
    lines += [f"bundle and figures: {model}", "", "next:", f"  triptych predict {model} {example}"]
    return "\n".join([*lines, f"  triptych compare {task}", "  triptych ui"])
