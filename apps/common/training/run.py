"""The life of a run, written once: options -> data -> model -> fit -> evaluate -> bundle -> MLflow."""

import contextlib
import dataclasses
import functools
import gc
import random
import sys
import time

import numpy as np

from apps.common.bundles.bundle import load_model, save_bundle
from apps.common.errors import Diverged, UserError
from apps.common.files import write_json
from apps.common.options.declare import make_config, options_of, to_plain
from apps.common.records.facts import describe_machine, fingerprint, run_figures
from apps.common.records.folder import find_run, mark_dead_runs, open_run
from apps.common.records.mlflow import Tracker, send_rest
from apps.common.training.interrupts import Signals


def task_name(app):
    """`apps.image_classification` is the task `image-classification`."""
    path = getattr(app, "__spec__", None).name if app.__name__ == "__main__" else app.__name__
    return path.rpartition(".")[2].replace("_", "-")


def say(line):
    print(line, file=sys.stderr, flush=True)


def train(app, given, *, resume=None, tags=None, parent=None, aliases=("newest",)):
    """Train the app on its data, evaluate it once on test, bundle and track it.

    Args:
        app: The app's module.
        given: `{option: text or value}` of the options that differ from the defaults.
        resume: Run to go on with: an id, its start, or `last`.
        tags: Tags of the MLflow run besides the usual ones.
        parent: The MLflow run this one is nested under.
        aliases: Of the version of the registered model that the bundle becomes.
    Returns: `{"task", "backend", "run_id", "model", "metrics", "seconds"}`.
    Raises:
        UserError: Options, data or files are not as they must be.
    """
    with Signals() as signals:
        return _train(app, given, resume=resume, tags=tags, parent=parent, aliases=aliases, signals=signals)


def _train(app, given, *, resume, tags, parent, aliases, signals):
    from layers import backend

    started, task = time.monotonic(), task_name(app)
    run = find_run(resume, task) if resume else None
    config = _config(app, given, run)
    if run and run.record["status"] == "finished":
        say(f"run {run.id} is finished already; nothing is left to train")
        send_rest(run)
        return run.record["result"]
    mark_dead_runs()
    backend.configure(deterministic=config.compile != "on")

    data = app.load_data(config)
    facts = {"data_fingerprint": fingerprint(data), **describe_machine()}
    if run and run.record["data_fingerprint"] != facts["data_fingerprint"]:
        raise UserError(f"--resume {resume}: the data have changed since the run began; start a new run or restore them")

    if run and "parts" in run.record:
        from apps.common.training.rescue import split_batches

        config = split_batches(config, run.record["parts"])
    model = make_model(app, config, data)
    print_notes(data)
    tracker = Tracker(
        task,
        run.folder if run else None,
        run_id=run.record["mlflow_run_id"] if run else None,
        name=getattr(config, "model", None),
        tags={"task": task, "data": data.source, "mlflow.source.name": f"triptych train {task}", **facts, **(tags or {})},
        parent=parent,
    )
    if not run:
        try:
            run = open_run(task, to_plain(config), tracker.run_id, mlflow_run_id=tracker.run_id, tags=tags or {}, **facts)
        except BaseException:
            tracker.end("FAILED")
            raise
    with _ending(run, tracker, signals) as outcome:
        tracker.attach(run)
        tracker.params(to_plain(config))
        tracker.send_left()
        run.update(status="running")
        tracker.watch_system()
        say(f"run {run.id}  {task} on {facts['backend']}  ({facts['device']})")
        model, history, gradient_norms = fit_within_memory(app, config, data, model, run, tracker, signals)
        seconds = time.monotonic() - started
        report = app.evaluate(model, data, config)
        metrics = {name: float(value) for name, value in report.metrics.items()}
        figures = {**report.figures, **run_figures(history, gradient_norms)}
        tracker.metrics({f"test_{name}": value for name, value in metrics.items()}, step=len(history["loss"]))
        for name, figure in figures.items():
            tracker.figure(figure, f"{name}.png")
        for name, rows in report.tables.items():
            write_json(run.folder / f"{name}.json", rows)
            tracker.files(run.folder / f"{name}.json", "tables")
        record = {"task": task, "options": to_plain(config), "about": data.about, "metrics": metrics}
        versions = {key: value for key, value in facts.items() if key.startswith("version")} | {"backend": facts["backend"]}
        save_bundle(run.bundle, model, {**record, "versions": versions}, figures)
        tracker.files(run.bundle, "bundle")
        tracker.register(task, "bundle", aliases=aliases, tags={"backend": facts["backend"]})
        result = {
            "task": task,
            "backend": facts["backend"],
            "run_id": run.id,
            "model": str(run.bundle.resolve()),
            "metrics": metrics,
            "seconds": round(seconds, 3),
        }
        outcome["result"] = result
    return result


def fit_within_memory(app, config, data, model, run, tracker, signals):
    """`fit`, again with smaller batches where memory did not suffice; `(model, history, gradient norms)`.

    Raises:
        UserError: The loss stopped being finite, or a single example is too much.
    """
    from apps.common.training import rescue
    from layers import backend

    while True:
        try:
            return model, *fit(app, config, data, model, run, tracker, signals)
        except Diverged as error:
            diverged = error
        except Exception as error:
            if not backend.is_out_of_memory(error):
                raise
            diverged = None
        del model  # out of the handler, so that what the failed step held is free
        gc.collect()  # a model and its step know one another, and a device does not tell Python that it is full
        backend.release_memory()
        if diverged:
            remake = functools.partial(make_model, app, config, data)
            raise rescue.explain(diverged, remake, config, data.train, run.checkpoints, say)
        config = rescue.after_lack_of_memory(config, data.train, config.parts, say)
        run.update(parts=config.parts)
        model = make_model(app, config, data)


def fit(app, config, data, model, run, tracker, signals=None, *, until=None):
    """Train from the run's newest checkpoint, if there is one; `({metric: [an epoch]}, gradient norms)`.

    With `until`, stop after that many epochs of a longer run, without a word, as a trial of a search does.
    """
    import keras

    from apps.common.training.batches import Batches, InOrder
    from apps.common.training.callbacks import AfterEpoch, Callbacks, GradientFlow, Keeper, Progress, Seeds, Validation
    from apps.common.training.checkpoint import load_checkpoint
    from apps.common.training.optimizers import averaged_when_done
    from apps.common.training.rescue import Watch
    from layers import backend

    stopper, stateful = stateful_callbacks(app, config, data)
    done, history = load_checkpoint(run.checkpoints, model, stateful, say)
    epochs, quiet = until or config.epochs, until is not None
    if done and not quiet:
        say(f"going on after epoch {done} of {config.epochs}, written by the {run.record['backend']} backend")
    run.update(backend=keras.backend.backend())
    batches = Batches(data.train, config.batch_size, config.seed, config.parts)
    watch = Watch(len(batches))
    if signals:
        signals.epochs(watch.remaining)
    progress = [Progress(epochs, len(batches))] if sys.stderr.isatty() and not quiet else []
    on_epoch = None if quiet else getattr(app, "on_epoch", None)
    after = [AfterEpoch(lambda *arguments: on_epoch(*arguments, data, config), tracker)] if on_epoch else []
    keeper = Keeper(
        run,
        tracker,
        stateful,
        history,
        epochs=epochs,
        every=config.checkpoint_every,
        steady=config.schedule == "constant" and not config.warmup,
        quiet=quiet,
        signals=signals,
    )
    if config.compile != "off":
        backend.hasten(model)
    validation = []
    if data.validation is not None:
        held = InOrder(data.validation, max(1, config.batch_size // config.parts))
        validation = [Validation(backend.evaluation(model, held))]
    callbacks = [Seeds(batches, config.seed), *validation, watch, *progress, *after, *stateful, keeper]
    with backend.distribution(config.distribute), averaged_when_done(model):
        try:
            model.fit(
                backend.feed(batches),
                epochs=epochs,
                initial_epoch=epochs if stopper and stopper.stopped else done,
                shuffle=False,
                verbose=0,
                callbacks=Callbacks(callbacks, model, epochs),
            )
        finally:
            keeper.record()
    if signals:
        signals.epochs(None)
    if stopper:
        stopper.restore_best(model)
    norms = next((each.norms for each in stateful if isinstance(each, GradientFlow)), [])
    return history, norms


def make_model(app, config, data):
    """The compiled model of the app under the config's precision, distribution and seed."""
    import keras

    from layers import backend
    from layers.initialization import undrawn

    keras.utils.clear_session(free_memory=False)
    random.seed(config.seed)  # where Keras draws the seeds of layers that were given none
    np.random.seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    devices = len(backend.devices())
    if config.distribute == "data" and config.batch_size % devices:
        raise UserError(f"--batch-size {config.batch_size}: expected a multiple of the {devices} devices of --distribute data")
    try:
        with backend.distribution(config.distribute), undrawn():
            return app.build_model(config, data)
    except ValueError as error:
        raise UserError(f"{task_name(app)}: this model cannot be built: {error}") from None


def stateful_callbacks(app, config, data):
    """The callbacks with a memory: `(early stopping or None, all of them)`."""
    from apps.common.training.callbacks import EarlyStopping, GradientFlow, Plateau

    monitor, lower = getattr(app, "MONITOR", ("val_loss", True))
    stopper = EarlyStopping(monitor, config.early_stopping, lower) if config.early_stopping else None
    found = [stopper] if stopper else []
    if config.schedule == "plateau":
        found.append(Plateau(monitor, config.decay_rate, config.decay_epochs, lower))
    if config.gradient_flow:
        size = max(1, min(len(data.train), config.batch_size) // config.parts)
        found.append(GradientFlow(data.train.take(np.arange(size))))
    return stopper, found


def find_rate(app, given):
    """The learning-rate finder: `{"rates", "losses", "suggestion", "figure"}`, nothing trained or tracked."""
    from pathlib import Path

    from apps.common import figures
    from apps.common.training.batches import Batches
    from apps.common.training.rate_finder import find_learning_rate

    config = dataclasses.replace(make_config(app.Config, given), schedule="constant", warmup=0.0)
    data = app.load_data(config)
    print_notes(data)
    model = make_model(app, config, data)
    batches = Batches(data.train, config.batch_size, config.seed)

    def batch(step):
        if step // batches.steps != batches.epoch:
            batches.set_epoch(step // batches.steps)
        return batches[step % batches.steps]

    rates, losses, suggestion = find_learning_rate(model, batch)
    path = Path("learning-rate.png").resolve()
    figures.learning_rate(rates, losses, suggestion).savefig(path, dpi=110, bbox_inches="tight")
    return {"rates": rates, "losses": losses, "suggestion": suggestion, "figure": str(path)}


def evaluate(app, bundle, data_name=None):
    """The report of a bundle on the test split of its own data, or on other data; same keys as `train`."""
    import keras

    started = time.monotonic()
    options = options_of(app.Config)
    given = {name: value for name, value in bundle.options.items() if name in options and not options[name].refused}
    config = app.Config(**{n: options[n].parse(v) for n, v in given.items() if v is not None or options[n].optional})
    if data_name is not None:
        config = dataclasses.replace(config, data=data_name)
    data = app.load_data(config, bundle.about if data_name is not None else None)
    print_notes(data)
    report = app.evaluate(load_model(bundle), data, config)
    return {
        "task": bundle.task,
        "backend": keras.backend.backend(),
        "run_id": bundle.folder.parent.name,
        "model": str(bundle.folder.resolve()),
        "metrics": {name: float(value) for name, value in report.metrics.items()},
        "seconds": round(time.monotonic() - started, 3),
    }


def _config(app, given, run):
    """The checked options; a resumed run's own ones, against which those given must not differ."""
    if run is None:
        return make_config(app.Config, given)
    options, saved = options_of(app.Config), run.record["options"]
    for name, value in given.items():
        if name not in options:
            make_config(app.Config, {name: value})
        parsed = options[name].parse(value)
        before = options[name].parse(saved[name]) if saved[name] is not None else None
        if parsed != before:
            raise UserError(
                f"{options[name].flag} {value}: run {run.id[:8]} was started with {before}. Resume with the same options, "
                "or start a new run without --resume"
            )
    return app.Config(**{name: options[name].parse(value) if value is not None else None for name, value in saved.items()})


@contextlib.contextmanager
def _ending(run, tracker, signals):
    """Whatever ends the run, its record and MLflow say so: FINISHED, KILLED (Ctrl-C, SIGTERM) or FAILED."""
    outcome = {}
    try:
        yield outcome
        tracker.end("FINISHED")
        run.update(status="finished", **outcome)  # last: a run killed before this is finished by --resume
    except BaseException as error:
        signals.ignore()
        killed = isinstance(error, KeyboardInterrupt | SystemExit)
        with contextlib.suppress(OSError):
            run.update(status="killed" if killed else "failed", error=str(error)[:500])
        tracker.end("KILLED" if killed else "FAILED")
        if killed:
            say(f"stopped; `--resume {run.id[:8]}` with the same options goes on after epoch {run.record['epoch']}")
        raise
    finally:
        run.release()


def print_notes(data):
    for note in data.notes:
        say(note)
