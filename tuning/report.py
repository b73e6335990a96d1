"""What a search found: its table, which options mattered, parallel coordinates, and the best so far against the cost."""

import csv
import io

import numpy as np

from apps.common import figures
from apps.common.files import write_json, write_text
from tuning.space import spread

FEWEST = 6  # trials below which a forest says nothing about which options matter


def configurations(search):
    """The searched options of each trial that ended, `{name: value}`, idle ones left out."""
    names = {each.option for each in search.plan.space.dimensions}
    given = [search.plan.space.given(trial.hyperparameters.values) for trial in search.oracle.ended()]
    return [_chosen(each, names) for each in given]


def _chosen(options, names):
    return {name: value for name, value in options.items() if name in names}


def rows(search):
    """One row a trial, in the order they ended."""
    made = []
    for trial, options in zip(search.oracle.ended(), configurations(search), strict=True):
        report = search.oracle.reports.get(trial.trial_id, {})
        row = {"trial": trial.trial_id, "status": trial.status.lower(), search.objective: trial.score}
        row |= {"epochs": report.get("epochs", 0), "seconds": report.get("seconds"), **options}
        if "tuner/trial_id" in trial.hyperparameters.values:
            row["continues"] = trial.hyperparameters.values["tuner/trial_id"]
        if trial.message:
            row["reason"] = trial.message.strip().splitlines()[-1]
        made.append(row)
    return made


def track(search, rows):
    """Put the table and the figures into the search's MLflow run and folder."""
    folder = search.folder.folder
    write_json(folder / "trials.json", rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / "trials.csv", text.getvalue())
    for name in ("trials.json", "trials.csv"):
        search.tracker.files(folder / name, "tables")
    found = importance(search)
    if found:
        names, means, deviations, fit = found
        write_json(folder / "importance.json", [{"option": n, "importance": m} for n, m in zip(names, means, strict=True)])
        search.tracker.files(folder / "importance.json", "tables")
        title = f"importance of the options for {search.objective} (forest's out-of-bag R2 {fit:.2f})"
        drawn = figures.bars(names, means, deviations, title, "loss of fit when the option is shuffled")
        search.tracker.figure(drawn, "importance.png")
    search.tracker.figure(parallel_coordinates(search), "parallel-coordinates.png")
    search.tracker.figure(history({search.plan.search: curve(search)}, search.objective, search.lower), "history.png")


def curve(search):
    """`[(epochs trained so far, score or None), ...]` of the trials in the order they ended."""
    cost, points = 0, []
    for trial in search.oracle.ended():
        cost += search.oracle.epochs(trial, search.plan.epochs)
        points.append((cost, trial.score if trial.status == "COMPLETED" else None))
    return points


def _positions(search):
    """`(trials, dimensions)`: where each completed trial stands on each dimension, 0 to 1, NaN where it is idle."""
    done = [trial for trial in search.oracle.ended() if trial.status == "COMPLETED"]
    table = np.full((len(done), len(search.plan.space.dimensions)), np.nan)
    for column, each in enumerate(search.plan.space.dimensions):
        for row, trial in enumerate(done):
            value = trial.hyperparameters.values.get(each.name)
            if value is not None and each.choices:
                table[row, column] = each.choices.index(value) / max(1, len(each.choices) - 1)
            elif value is not None:
                table[row, column] = spread(value, each.low, each.high, each.log)
    return done, table


def importance(search):
    """How much worse a random forest over the trials predicts the score when an option is shuffled.

    Returns: `(names, means, deviations, out-of-bag R2)`; `None` for fewer than six trials.
    Reference: Breiman, 2001, Random forests.
    """
    done, table = _positions(search)
    if len(done) < FEWEST:
        return None
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    # Ranks: one trial that diverged must not be all there is to predict.
    scores = np.array([trial.score for trial in done])
    ranks = np.argsort(np.argsort(scores)) / (len(done) - 1)
    filled = np.nan_to_num(table, nan=-1.0)
    forest = RandomForestRegressor(100, min_samples_leaf=2, oob_score=True, random_state=0).fit(filled, ranks)
    found = permutation_importance(forest, filled, ranks, n_repeats=10, random_state=0)
    names = [each.name for each in search.plan.space.dimensions]
    return names, found.importances_mean, found.importances_std, forest.oob_score_


def parallel_coordinates(search):
    """A line a trial over one axis an option and a last one for the score, the best dark and thick."""
    done, table = _positions(search)
    scores = np.array([trial.score for trial in done], dtype="float64")
    order = np.argsort(-scores if search.lower else scores)  # the best is drawn last, on top
    low, high = scores.min(), scores.max()
    heights = (scores - low) / (high - low) if high > low else np.full(len(done), 0.5)
    dimensions = search.plan.space.dimensions
    figure, axis = figures.new(max(6.0, 1.3 * (len(dimensions) + 1)), 4.8)
    places = np.arange(len(dimensions) + 1)
    for rank, index in enumerate(order):
        shade = rank / max(1, len(order) - 1)
        best = rank == len(order) - 1
        line = np.append(table[index], heights[index])
        there = ~np.isnan(line)
        color = "tab:red" if best else (0.75 - 0.65 * shade, 0.8 - 0.5 * shade, 0.95 - 0.25 * shade)
        axis.plot(places[there], line[there], color=color, linewidth=2.4 if best else 1.0, marker=".", zorder=rank + 2)
    for place, each in enumerate(dimensions):
        axis.axvline(place, color="0.7", linewidth=0.8, zorder=1)
        ends = each.choices or (each.low, each.high)
        for index, value in enumerate(ends):
            text = f"{value:.3g}" if isinstance(value, float) else str(value)
            height = index / max(1, len(ends) - 1)
            axis.annotate(text, (place, height), xytext=(3, 0), textcoords="offset points", fontsize=6, va="center")
    axis.axvline(places[-1], color="0.3", linewidth=1.2)
    axis.annotate(f"{low:.4g}", (places[-1], 0), xytext=(4, 0), textcoords="offset points", fontsize=7, va="center")
    axis.annotate(f"{high:.4g}", (places[-1], 1), xytext=(4, 0), textcoords="offset points", fontsize=7, va="center")
    axis.set_xticks(places, [*(each.name for each in dimensions), search.objective], rotation=30, ha="right", fontsize=8)
    axis.set(yticks=[], title=f"{len(done)} trials, the best in red")
    return figure


def history(curves, objective, lower):
    """The best so far over the epochs trained, a dot a trial.

    Args:
        curves: `{name: [(epochs so far, score or None), ...]}`.
        objective, lower: The metric, and whether small is good.
    """
    figure, axis = figures.new()
    for index, (name, points) in enumerate(curves.items()):
        good = [(cost, score) for cost, score in points if score is not None]
        if not good:
            continue
        costs, scores = np.array(good).T
        best = (np.minimum if lower else np.maximum).accumulate(scores)
        axis.scatter(costs, scores, s=10, alpha=0.4, color=f"C{index}")
        axis.step(costs, best, where="post", label=f"{name}, best so far", color=f"C{index}")
    axis.set(xlabel="epochs trained in all", ylabel=objective, title="history of the search")
    axis.legend(frameon=False)
    axis.grid(alpha=0.3)
    return figure
