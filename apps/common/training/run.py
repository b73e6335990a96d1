"""The life of a run, written once: options -> data -> model -> fit -> evaluate -> bundle -> MLflow."""

import contextlib
import dataclasses
import functools
import gc
import time

import numpy as np

from apps.common import figures
from apps.common.app import metric_of, task_name, training_data, with_more
from apps.common.bundles.bundle import load_model, save_bundle
from apps.common.bundles.card import model_card
from apps.common.bundles.example import example_of
from apps.common.bundles.pretrained import pretrained_facts
from apps.common.bundles.served import described
from apps.common.data.ahead import data_of
from apps.common.data.fingerprint import example_digests, fingerprint, known_again, known_by
from apps.common.errors import Diverged, UserError
from apps.common.files import write_json
from apps.common.options.declare import is_active, options_of, to_plain
from apps.common.output import said_meanwhile, say
from apps.common.records.facts import describe_machine, run_figures
from apps.common.records.folder import find_run, mark_dead_runs, open_run
from apps.common.records.mlflow import Tracker, send_rest
from apps.common.training import rescue
from apps.common.training.batches import Batches
from apps.common.training.fit import fit, make_model, prepare, settled
from apps.common.training.interrupts import Interrupts
from apps.common.training.rate_finder import find_learning_rate
from apps.common.training.remarks import remarks
from layers import backend

MOST_DIGESTS = 2_000_000  # examples of a split that a bundle can tell apart later, at eight bytes each


def train(app, config, *, resume=None, given=(), tags=None, parent=None, aliases=("newest",)):
    """Train the app on its data, evaluate it once on test, bundle and track it.

    Args:
        app: The app's module.
        config: Its checked `Config`.
        resume: Run to go on with: an id, its start, or `last`.
        given: Names of the options that were asked for, which must be those the resumed run was started with.
        tags: Tags of the MLflow run besides the usual ones.
        parent: The MLflow run this one is nested under.
        aliases: Of the version of the registered model that the bundle becomes.
    Returns: `{"task", "backend", "run_id", "model", "metrics", "seconds"}`.
    Raises:
        UserError: Options, data or files are not as they must be.
    """
    started, task = time.monotonic(), task_name(app)
    with Interrupts() as interrupts:
        run = find_run(resume, task) if resume else None
        if run:
            config = resumed_config(app, config, given, run)
            if run.record["status"] == "finished":
                say(f"run {run.id} is finished already; nothing is left to train")
                send_rest(run)
                return run.record["result"]
        mark_dead_runs()
        backend.configure(deterministic=config.compile != "on")
        data, said = data_of(app, config)
        said, data = len(data.notes) if said else 0, with_more(app, data, config)
        metric = metric_of(app, data.about)
        ranked = {"metric": f"test_{metric.name}", "higher_is_better": str(metric.higher_is_better)}
        facts = {"data_fingerprint": fingerprint(data), **ranked, **describe_machine()}
        if run and run.record["data_fingerprint"] != facts["data_fingerprint"]:
            raise UserError(f"--resume {resume}: the data have changed since the run began; start a new run or restore them")
        asked, (config, chosen) = to_plain(config), settled(app, config, data)
        if run and "parts" in run.record:
            config = rescue.split_batches(config, run.record["parts"])
        model = make_model(app, config, data)
        facts |= pretrained_facts(model)
        print_notes(data, said)
        if chosen:
            say(chosen)
            facts["chosen"] = chosen
        run, tracker = _open(app, config, data, run, {**facts, "asked": asked}, tags or {}, parent)
        with _ending(run, tracker, interrupts) as outcome:
            tracker.attach(run)
            tracker.params(acting(config))
            tracker.dataset(data.source, facts["data_fingerprint"], {"train": len(data.train), "test": len(data.test)})
            tracker.send_left()
            run.update(status="running")
            tracker.watch_system()
            say(f"run {run.id}  {task} on {facts['backend']}  ({facts['device']})")
            model, history, norms, best_epoch = fit_within_memory(app, config, data, model, run, tracker, interrupts)
            seconds = round(time.monotonic() - started, 3)
            outcome["beside"] = beside = {"best_epoch": best_epoch, "epochs": len(history["loss"])}
            metrics = _report(app, config, data, model, run, tracker, facts, (history, norms), beside)
            tracker.register(task, "bundle", aliases=aliases, tags={"backend": facts["backend"]})
            outcome["result"] = {
                "task": task,
                "backend": facts["backend"],
                "run_id": run.id,
                "model": str(run.bundle.resolve()),
                "metrics": metrics,
                "seconds": seconds,
            }
    return outcome["result"]


def acting(config):
    """The options that do anything in this run, as MLflow's parameters."""
    options = options_of(type(config))
    return {name: value for name, value in to_plain(config).items() if is_active(config, options[name])}


def _open(app, config, data, run, facts, tags, parent):
    """The run's folder and its tracker, new or found again."""
    task = task_name(app)
    tracker = Tracker(
        task,
        run.folder if run else None,
        run_id=run.record["mlflow_run_id"] if run else None,
        name=getattr(config, "model", None),
        tags={"task": task, "data": data.source, "mlflow.source.name": f"triptych train {task}", **_texts(facts), **tags},
        parent=parent,
    )
    if run:
        return run, tracker
    try:
        return open_run(task, to_plain(config), tracker.run_id, mlflow_run_id=tracker.run_id, tags=tags, **facts), tracker
    except BaseException:
        tracker.end("FAILED")
        raise


def _texts(facts):
    """The facts that are a tag: the options are parameters already."""
    return {name: value for name, value in facts.items() if name != "asked"}


def _report(app, config, data, model, run, tracker, facts, trained, beside):
    """Evaluate on test, once; numbers, figures, tables and the bundle go where they are kept. Returns the metrics."""
    history, norms = trained
    with said_meanwhile("evaluating on test"):
        report = app.evaluate(model, data, config)
    metrics = {name: float(value) for name, value in report.metrics.items()}
    with said_meanwhile("trying the plain methods"):
        baselines = baselines_of(app, data, config)
    said = remarks(metric_of(app, data.about), metrics, baselines, data, (beside["best_epoch"], beside["epochs"]))
    said += [f"remark: {line}" for line in (*data.remarks, *report.remarks)]
    beside |= {"baselines": baselines, "remarks": said}
    drawn = {**report.figures, **run_figures(history, norms)}
    tracker.metrics({f"test_{name}": value for name, value in metrics.items()}, step=len(history["loss"]))
    for name, values in baselines.items():
        tracker.metrics({f"baseline_{name}_{key}".replace(",", ""): value for key, value in values.items()})
    for name, rows in report.tables.items():
        write_json(run.folder / f"{name}.json", rows)
        tracker.files(run.folder / f"{name}.json", "tables")
    splits = {name: getattr(data, name) for name in ("train", "validation", "test") if getattr(data, name) is not None}
    counts = {name: len(split) for name, split in splits.items()}
    units = {name: split.unit for name, split in splits.items() if hasattr(split, "unit")}
    record = {
        "task": task_name(app),
        "run_id": run.id,
        "options": to_plain(config),
        "about": data.about,
        "metrics": metrics,
        "baselines": baselines,
        "versions": {key: value for key, value in facts.items() if key.startswith("version")} | {"backend": facts["backend"]},
        "data": {"source": data.source, "fingerprint": facts["data_fingerprint"], "examples": counts, "units": units},
    }
    ways = {"train": known_by, "validation": known_by, "test": example_digests}
    known = {name: ways[name](split) for name, split in splits.items() if len(split) <= MOST_DIGESTS}
    beside["example"], pictures = example_of(app, data, run.bundle)
    card = model_card(record, beside)
    # What MLflow shows as the run's description, beside its own title and parameters.
    tracker.tags({"mlflow.note.content": card.partition("## Options")[0].partition("\n\n")[2]})
    texts = {"README.md": card, **described(app, data.about, tracker.run_id, beside["example"])}
    save_bundle(run.bundle, model, record, drawn, digests=known, texts=texts, pictures=pictures)
    tracker.files(run.bundle, "bundle")
    return metrics


def baselines_of(app, data, config):
    """What the app's plain methods reach on the same split; a method that fails is said and left out."""
    if not hasattr(app, "baselines"):
        return {}
    try:
        found = app.baselines(data, config)
    except Exception as error:  # a plain method is no reason to lose a trained model
        say(f"the baselines failed and are left out: {type(error).__name__}: {str(error)[:200]}")
        return {}
    return {name: {key: float(value) for key, value in values.items()} for name, values in found.items()}


def fit_within_memory(app, config, data, model, run, tracker, interrupts):
    """`fit`, again with smaller batches where memory did not suffice; `(model, history, gradient norms, best epoch)`.

    Raises:
        UserError: The loss stopped being finite, or a single example is too much.
    """
    while True:
        try:
            return model, *fit(app, config, data, model, run, tracker, interrupts)
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


def find_rate(app, config):
    """The learning-rate finder: `{"rates", "losses", "suggestion", "figure"}`, nothing trained or tracked."""
    from pathlib import Path

    config = dataclasses.replace(config, schedule="constant", warmup=0.0)
    data = training_data(app, config)
    print_notes(data)
    config, chosen = settled(app, config, data)
    if chosen:
        say(chosen)
    model = make_model(app, config, data)
    prepare(app, model, data, config)
    batches = Batches(data.train, config.batch_size, config.seed)

    def batch(step):
        if step // batches.steps != batches.epoch:
            batches.set_epoch(step // batches.steps)
        return batches[step % batches.steps]

    rates, losses, suggestion = find_learning_rate(model, batch)
    path = Path("learning-rate.png").resolve()
    figures.save(figures.learning_rate(rates, losses, suggestion), path)
    return {"rates": rates, "losses": losses, "suggestion": suggestion, "figure": str(path)}


def evaluate(app, bundle, data_name=None):
    """The report of a bundle on the very test split of its training, or on other data; same keys as `train`.

    Raises:
        UserError: Without `data_name`, the data are no longer those of the training.
    """
    started = time.monotonic()
    options = options_of(app.Config)
    given = {name: value for name, value in bundle.options.items() if name in options and not options[name].refused}
    config = app.Config(**{n: options[n].parse(v) for n, v in given.items() if v is not None or options[n].optional})
    if data_name is not None:
        config = dataclasses.replace(config, data=data_name)
    # What a run takes from other bundles besides weights, such as a vocabulary, is in its own, and they may be gone.
    sources = [name for name in config.sources if getattr(config, name)]
    config = dataclasses.replace(config, **dict.fromkeys(sources, str(bundle.folder)))
    data = app.load_data(config, bundle.about) if data_name is not None else data_of_training(app, config)
    print_notes(data)
    known = bundle.digests()
    if data_name is None and "test" in known:
        refuse_other_test(bundle, known["test"], data.test)
    model = load_model(bundle)
    with said_meanwhile(f"evaluating on {data_name or 'test'}"):
        report = app.evaluate(model, data, config)
        metrics = {name: float(value) for name, value in report.metrics.items()}
        if data_name is not None:
            metrics |= on_unseen(app, model, data, config, known)
    for line in report.remarks:
        say(f"remark: {line}")
    return {
        "task": bundle.task,
        "backend": describe_machine()["backend"],
        "run_id": bundle.folder.parent.name,
        "model": str(bundle.folder.resolve()),
        "metrics": metrics,
        "seconds": round(time.monotonic() - started, 3),
    }


def data_of_training(app, config):
    """The data that a bundle's options name, from wherever its evaluation is started.

    Raises:
        UserError: They are not to be had here, as a path of the folder of then is not.
    """
    try:
        return app.load_data(config)
    except UserError as error:
        advice = "start in the folder where it was trained, or name other data by --data"
        raise UserError(f"what this model was trained on cannot be read here; {advice} ({error})") from None


def refuse_other_test(bundle, known, test):
    """Refuse a test split that is not, example for example, the one the bundle was tested on."""
    found = example_digests(test)
    if len(found) != len(known) or not np.array_equal(np.sort(found), np.sort(known)):
        same = int(np.isin(found, known).sum())
        where = bundle.options.get("data") or "the data"
        raise UserError(
            f"{where}: no longer what this model was trained on ({same} of its {len(known)} test examples are there). "
            "Restore the data, or name others with --data"
        )


def on_unseen(app, model, data, config, known):
    """The app's metric on the examples that were not trained on, beside that on all; what is counted is said."""
    if "train" not in known:
        return {}
    seen = np.any([known_again(data.test, known[name]) for name in ("train", "validation") if name in known], axis=0)
    if not seen.any():
        return {}
    apart = not seen.all() and hasattr(data.test, "subset")
    left_out = "the numbers ending in _unseen leave them out" if apart else "the numbers flatter"
    say(f"{int(seen.sum())} of {len(seen)} examples were trained or validated on; {left_out}")
    if not apart:
        return {}
    others = dataclasses.replace(data, test=data.test.subset(np.flatnonzero(~seen)))
    return {f"{name}_unseen": float(value) for name, value in app.evaluate(model, others, config).metrics.items()}


def resumed_config(app, config, given, run):
    """The options a run was started with, against which those given must not differ; its data may have moved."""
    options, saved = options_of(app.Config), run.record["options"]
    asked = run.record.get("asked", saved)
    for name in given:
        before = options[name].parse(asked[name]) if asked[name] is not None else None
        if getattr(config, name) != before and name != "data":
            raise UserError(
                f"{options[name].flag} {getattr(config, name)}: run {run.id[:8]} was started with {before}. Resume with the "
                "same options, or start a new run without --resume"
            )
    plain = {name: options[name].parse(value) if value is not None else None for name, value in saved.items() if name in options}
    return app.Config(**{**plain, **({"data": config.data} if "data" in given else {})})


@contextlib.contextmanager
def _ending(run, tracker, interrupts):
    """Whatever ends the run, its record and MLflow say so: FINISHED, KILLED (Ctrl-C, SIGTERM) or FAILED."""
    outcome = {}
    try:
        yield outcome
        tracker.end("FINISHED")
        run.update(status="finished", **outcome)  # last: a run killed before this is finished by --resume
    except BaseException as error:
        interrupts.ignore()
        killed = isinstance(error, KeyboardInterrupt | SystemExit)
        with contextlib.suppress(OSError):
            run.update(status="killed" if killed else "failed", error=str(error)[:500])
        tracker.end("KILLED" if killed else "FAILED")
        if killed:
            say(f"stopped; `--resume {run.id[:8]}` with the same options goes on after epoch {run.record['epoch']}")
        raise
    finally:
        run.release()


def print_notes(data, said=0):
    """Say the notes of the data; the first `said` of them have been."""
    for note in data.notes[said:]:
        say(note)
