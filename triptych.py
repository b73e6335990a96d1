"""Triptych: train, tune, compare, explain and ship deep-learning models on TensorFlow, JAX or PyTorch."""

import contextlib
import sys
from pathlib import Path

from apps.common.app import load_app, recipes, tasks
from apps.common.command import BACKEND, FLAGS, SWITCHES, TRAIN, answered, check_data, run_and_leave, show, summary
from apps.common.command import check_flags as check_known
from apps.common.command import train as train_app
from apps.common.errors import UserError, nearest
from apps.common.options import backends
from apps.common.options.command_line import options_help, read_command_line, settle_switches, whole_number
from apps.common.options.declare import make_config, options_of
from apps.common.training.renewal import Grown, renew

COMMANDS = {
    "list": ("", "tasks, architectures and recipes, one line each", {}),
    "train": ("TASK", "train, evaluate, bundle and track a model", TRAIN),
    "tune": (
        "TASK",
        "search the options of a task, then train the best configuration",
        {
            **BACKEND,
            "search": "random, hyperband, bayesian, grid or evolution (random)",
            "trials": "configurations to try at most (20; grid and hyperband: all of theirs)",
            "trial_epochs": "epochs of a trial (as --epochs)",
            "only": "options to search, comma-separated; else all that have a range",
            "fix": "options held still: name=value,name=value; as giving them by their own flags",
            "no_final": "leave out training and testing the best configuration",
            "control": "search at random as well, at equal cost, and draw both curves",
            "workers": "trials side by side on this machine",
            "chief": "[HOST:]PORT at which workers may join (on 127.0.0.1; no authentication: private networks only)",
            "join": "HOST:PORT of a chief to work for",
        },
    ),
    "evaluate": ("MODEL", "metrics of a bundle on its test split or on other data", {**BACKEND, "data": "other data"}),
    "predict": (
        "MODEL INPUT ...",
        "predictions for files or values",
        {**BACKEND, "output": "file to write: .csv, .json or .jsonl"},
    ),
    "compare": (
        "[TASK]",
        "runs, best first, the backend as a column",
        {
            "limit": "rows at most (20)",
            "tag": "only runs with this NAME=VALUE among their tags; several with commas between them",
            "recipe": "only runs of this recipe",
            "backend": "only runs on this backend",
            "data": "only runs on data of this name, or whose digest begins so",
            "since": "only runs begun on this date or later: 2026-11-20 or 2026-11-20T16:30",
            "until": "only runs begun on this date or before it",
            "html": "file to write: curves, options side by side and parallel coordinates on one page",
        },
    ),
    "export": (
        "MODEL",
        "a bundle in another format, checked against the original",
        {
            **BACKEND,
            "format": "onnx, saved_model, litert or torch",
            "output": "where it goes",
            "part": "one of the networks of a model of several, such as encoder (what is used after training)",
        },
    ),
    "demo": ("MODEL", "a page in the browser to try a model, on loopback", {**BACKEND, "port": "port (7860)"}),
    "chat": ("MODEL", "talk with a dialogue model in the terminal", {**BACKEND}),
    "matrix": (
        "",
        "parity and step time of every architecture on every backend",
        {"only": "cases and tasks whose name holds this", "out": "Markdown file to write", "html": "HTML file to write"},
    ),
    "bench": (
        "[TASK|run|prediction|growth|accelerator]",
        "fit against raw native loops; what surrounds a step; single-row prediction; growth; GPT-2 on an accelerator",
        {**BACKEND, "only": "families or subjects, comma-separated", "turns": "turns at most of fit beside raw loops"},
    ),
    "reproduce": (
        "[RECIPE]",
        "ours beside the published number",
        {**BACKEND, "seeds": "number of seeds instead of the recipe's own"},
    ),
    "ui": ("", "MLflow's UI over mlruns/, on loopback", {"port": "port (5000)"}),
    "doctor": ("", "what is installed, what is missing and the command that mends it", {}),
}


def main(arguments=None):
    """Run one command; returns its exit code: 0 done, 2 the user's input, 1 our fault."""
    try:
        return answered(lambda: _dispatch(sys.argv[1:] if arguments is None else list(arguments)))
    except Grown:
        return renew() if arguments is None else main(arguments)


def _dispatch(arguments):
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(overview())
        return 0
    name, rest = arguments[0], arguments[1:]
    if name == "--version":
        from importlib.metadata import version

        print(version("triptych"))
        return 0
    if name not in COMMANDS:
        raise UserError(f"unknown command {name!r}. {nearest(name, COMMANDS)} See triptych --help")
    positionals, given = read_command_line(rest, SWITCHES)
    if given.pop("help", False):
        print(command_help(name, positionals))
        return 0
    as_json = given.pop("json", False)
    # Keras and its backends print as they please; standard output is the command's alone.
    with contextlib.redirect_stdout(sys.stderr):
        result = globals()["command_" + name](positionals, given, as_json)
    return show(result, as_json)


def check_flags(command, given, more=()):
    """Refuse an option that this command does not have, and one that lacks its value."""
    check_known(command, given, COMMANDS[command][2], more)


def find_app(positionals, command="train"):
    if len(positionals) != 1:
        raise UserError(f"{command}: expected one TASK. Received: {' '.join(positionals) or 'none'}. See triptych list")
    return load_app(positionals[0])


def overview():
    lines = [__doc__.strip(), "", "usage: triptych COMMAND ... [--json] [--backend tensorflow|jax|torch|auto]", ""]
    lines += [f"  {name + ' ' + usage:26} {about}" for name, (usage, about, _) in COMMANDS.items()]
    lines += ["", "Start: triptych train image-classification      Options of a task: triptych train TASK --help"]
    return "\n".join(lines)


def command_help(name, positionals):
    usage, about, flags = COMMANDS[name]
    lines = [f"usage: triptych {name} {usage} [options]", "", about, ""]
    lines += [f"  --{flag.replace('_', '-'):22} {text}" for flag, text in {**flags, **FLAGS}.items()]
    if name in ("train", "tune") and positionals:
        app = find_app(positionals)
        lines[2:2] = [app.__doc__.strip().splitlines()[0], ""]
        lines += ["", f"options of {positionals[0]} (default in brackets):", *options_help(app.Config)]
        lines += ["", "recipes: " + ", ".join(app.RECIPES or ["none"])]
    if name == "predict":
        for task in tasks():
            own = getattr(load_app(task), "PredictOptions", None)
            lines += ["", f"with a model of {task} (default in brackets):", *options_help(own)] if own else []
    return "\n".join(lines)


def command_list(positionals, given, as_json):
    from apps.common.output import table
    from bench.reproduce import every_recipe
    from layers.models import ARCHITECTURES

    check_flags("list", given)
    rows = []
    for name in tasks():
        rows.append({"kind": "task", "name": name, "about": load_app(name).__doc__.strip().splitlines()[0]})
    rows += [{"kind": "architecture", "name": name, "about": about} for name, about in ARCHITECTURES.items()]
    rows += [{"kind": "recipe", "name": name, "about": recipe.about} for name, (_, recipe) in every_recipe().items()]
    return {"rows": rows}, table(rows)


def command_train(positionals, given, as_json):
    return train_app(find_app(positionals), given)


def command_tune(positionals, given, as_json):
    from apps.common.output import table

    app = find_app(positionals, "tune")
    flags = {name: given.pop(name) for name in COMMANDS["tune"][2] if name in given}
    check_flags("tune", flags)
    from tuning import command

    given = settle_switches(given, options_of(app.Config))
    request = command.read(app, flags, given)
    if request.data is not None:
        check_data(app, request.data)
    backend = flags.get("backend")
    if backend == "auto":
        from apps.common.training.auto import fastest

        backend, _ = fastest(app, positionals[0], given, settled=True)
    backends.prepare(backends.choose(backend))
    result = command.run(app, request)
    return result, command.summary(result, table)


def _bundle(positionals, given, command):
    from apps.common.bundles.bundle import check_about, open_bundle

    if command not in ("predict", "chat"):  # whose app may have options of its own
        check_flags(command, given)
    if not positionals:
        raise UserError(f"{command}: expected MODEL: a bundle folder, a run id or name@alias. See triptych compare")
    bundle = open_bundle(positionals[0])
    if bundle.task not in tasks():
        raise UserError(f"{positionals[0]}: a bundle of {bundle.task}, a task this version does not have. See triptych list")
    app = load_app(bundle.task)
    check_about(app, bundle)
    if command in ("predict", "chat"):
        given["options"] = predict_options(app, given, command)
    backend = given.pop("backend", None)
    if backend == "auto":
        from apps.common.training.auto import fastest_for_bundle

        backend = fastest_for_bundle(bundle)
    backends.prepare(backends.choose(backend))
    return app, bundle


def command_evaluate(positionals, given, as_json):
    app, bundle = _bundle(positionals, given, "evaluate")
    from apps.common.training import run  # imports Keras, whose backend is settled now

    result = run.evaluate(app, bundle, given.get("data"))
    return result, summary(result, given.get("data")).partition("\n\nnext:")[0]


def predict_options(app, given, command="predict"):
    """The app's `PredictOptions`, taken out of what was given, as further arguments of its `predict`."""
    wanted = getattr(app, "PredictOptions", None)
    options = options_of(wanted) if wanted else {}
    own = {name: given.pop(name) for name in list(given) if name.removeprefix("no_") in options}
    check_flags(command, given, [option.flag for option in options.values()])
    return (make_config(wanted, settle_switches(own, options)),) if wanted else ()


def command_predict(positionals, given, as_json):
    from apps.common.bundles.answers import Failures, RowsFile, answer
    from apps.common.bundles.bundle import load_model
    from apps.common.output import said_meanwhile, say, table

    output = given.get("output")
    if output is not None and len(positionals) > 1:
        RowsFile(output, positionals[1:])  # refused before anything is computed
    app, bundle = _bundle(positionals, given, "predict")
    if len(positionals) < 2:
        raise UserError("predict: expected MODEL and at least one INPUT (a file, a folder, a value, or - for standard input)")
    model, rows, failures = load_model(bundle), [], Failures()
    meanwhile = said_meanwhile(lambda: f"{failures.rows:,} predictions, going on")
    with meanwhile, RowsFile(output) if output is not None else contextlib.nullcontext() as file:
        try:
            for row in answer(app, model, bundle.about, positionals[1:], given.pop("options")):
                failures.see(row)
                if file:
                    file.write(row)
                if as_json or not file:
                    rows.append(row)
        except KeyError as error:
            where = f"{positionals[0]}: its record has no {error}"
            raise UserError(f"{where}; it was not written by this task. Train again") from None
        failures.check()
    if failures.failed:
        say(failures.line())
    return {"predictions": rows}, f"{failures.rows} predictions: {output}" if file else table(rows)


def command_demo(positionals, given, as_json):
    port = whole_number(given, "port", 7860)
    app, bundle = _bundle(positionals, given, "demo")
    from apps.common.bundles.demo import serve

    serve(app, bundle, positionals[0], port)
    return {}, ""


def command_chat(positionals, given, as_json):
    from apps.common.bundles.bundle import load_model

    app, bundle = _bundle(positionals, given, "chat")
    if not hasattr(app, "reply"):
        raise UserError(f"{positionals[0]}: a model of {bundle.task} does not converse; train text-generation on dialogues")
    model, turns = load_model(bundle), []
    alone = " Each is answered by itself, as in the data." if bundle.about.get("most_turns", 3) <= 2 else ""
    print(f"Say something; an empty line ends it.{alone}", file=sys.stderr)
    while True:
        print("> ", end="", file=sys.stderr, flush=True)
        asked = sys.stdin.readline().strip()
        if not asked:
            return {"turns": [text for _, text in turns]}, ""
        turns.append((False, asked))
        answer = ""
        try:
            for piece in app.reply(model, turns, bundle.about, *given["options"]):
                print(piece, end="", file=sys.stderr, flush=True)
                answer += piece
        except UserError as error:
            if not bundle.about.get("dialogue"):
                raise
            print(f"({error})", file=sys.stderr)
            turns.pop()
            continue
        print(file=sys.stderr)
        turns.append((True, answer))


def command_compare(positionals, given, as_json):
    from apps.common.output import table
    from apps.common.records.compare import compare, make_filter, write_page

    check_flags("compare", given)
    if positionals:
        find_app(positionals, "compare")
    if given.get("backend"):
        check_name("--backend", given["backend"], backends.BACKENDS)
    if given.get("recipe"):
        check_name("--recipe", given["recipe"], recipes())
    wanted, limit = make_filter(given), whole_number(given, "limit", 20)
    runs = compare(positionals[0] if positionals else None, limit, wanted)
    if "html" in given:
        if not runs:
            raise UserError(f"--html {given['html']}: there is no such run to show; train one, or leave a filter out")
        write_page(given["html"], runs)
    rows = [run.row() for run in runs]
    return {"rows": rows}, table(rows)


def check_name(flag, name, known):
    if name not in known:
        raise UserError(f"{flag} {name}: there is none of this name. {nearest(name, known)}")


def command_export(positionals, given, as_json):
    from apps.common.bundles.export import WHOLE, export, summary_line
    from apps.common.output import said_meanwhile

    form, output = given.get("format"), given.get("output")
    if form is None or output is None:
        raise UserError("export: expected MODEL --format onnx|saved_model|litert|torch --output PATH")
    _, bundle = _bundle(positionals, given, "export")
    with said_meanwhile(f"writing and checking {output}"):
        made = export(bundle, form, output, given.get("part", WHOLE))
    return made, summary_line(made)


def command_matrix(positionals, given, as_json):
    from apps.common.output import table
    from bench.matrix import matrix, shown

    check_flags("matrix", given)
    cases = Path(__file__).resolve().parent / "tests" / "cases.py"
    rows = shown(*matrix(only=given.get("only") or "", out=given.get("out"), html=given.get("html"), cases=cases))
    return {"rows": rows}, table(rows)


def command_bench(positionals, given, as_json):
    from bench.instruments import bench, shown

    check_flags("bench", given)
    rows = bench(*positionals[:1], **{name: given[name] for name in ("backend", "only", "turns") if name in given})
    return {"rows": rows}, shown(rows)


def command_reproduce(positionals, given, as_json):
    from apps.common.output import table
    from bench.reproduce import every_recipe, reproduce

    check_flags("reproduce", given)
    known = every_recipe()
    for name in positionals:
        if name not in known:
            raise UserError(f"unknown recipe {name!r}. {nearest(name, known)}")
    chosen = given.get("backend")
    wanted = backends.installed() if chosen in (None, "auto") else [backends.choose(chosen)]
    rows = reproduce({name: known[name] for name in positionals or known}, wanted, whole_number(given, "seeds", None))
    return {"rows": rows}, table(rows)


def command_ui(positionals, given, as_json):
    from apps.common.records.mlflow import serve_ui

    check_flags("ui", given)
    serve_ui(whole_number(given, "port", 5000))
    return {}, ""


def command_doctor(positionals, given, as_json):
    from apps.common.output import table
    from apps.common.records.doctor import examine

    check_flags("doctor", given)
    rows = examine()
    return {"rows": rows}, table(rows)


def run():
    """The program: what `triptych` on the command line calls."""
    run_and_leave(main)


if __name__ == "__main__":
    run()
