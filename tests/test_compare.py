"""`triptych compare`: which runs it shows, in which order, and the page it writes; from records alone, without a store."""

import json
import re

import pytest

import triptych
from apps.common.errors import UserError
from apps.common.records import mlflow as tracking
from apps.common.records.compare import Filter, compare, make_filter, write_page

pytestmark = pytest.mark.once  # nothing in it depends on the backend

RUNS = [
    ("aaaa", "tabular", "jax", "adult-mlp", 0.91, "2026-11-02T10:00", {"model": "mlp", "learning_rate": 0.01}),
    ("bbbb", "tabular", "torch", "", 0.95, "2026-11-03T23:30", {"model": "mlp", "learning_rate": 0.001}),
    ("cccc", "tabular", "tensorflow", "adult-mlp", 0.80, "2026-11-04T00:10", {"model": "</script><b>", "learning_rate": 0.1}),
    ("dddd", "tabular", "jax", "", None, "2026-11-05T10:00", {"model": "perceptron", "learning_rate": 0.1}),
    ("eeee", "graph", "jax", "", 0.70, "2026-11-02T10:00", {"model": "gcn", "learning_rate": 0.01}),
]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder with the records of five runs, whose MLflow store is away."""
    from datetime import datetime

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    def away():
        raise OSError("connection refused")

    monkeypatch.setattr("apps.common.records.compare.client", away)
    for run, task, backend, recipe, accuracy, started, options in RUNS:
        folder = tracking.ROOT / "runs" / run
        (folder / "checkpoints" / "epoch-00002").mkdir(parents=True)
        result = {} if accuracy is None else {"result": {"metrics": {"accuracy": accuracy}, "seconds": 2.5}}
        ranked = {"metric": "test_accuracy", "higher_is_better": "True"}
        record = {**ranked, "task": task, "options": options, "status": "finished" if result else "killed", "backend": backend,
                  "created": datetime.fromisoformat(started).timestamp(), "tags": {"recipe": recipe or "none"}}  # fmt: skip
        (folder / "run.json").write_text(json.dumps({**record, **result}))
        history = {"loss": [1.0, 0.5], "val_loss": [1.1, float("nan")]}
        (folder / "checkpoints" / "epoch-00002" / "state.json").write_text(json.dumps({"history": history}))
    return tmp_path


def chosen(task="tabular", limit=20, **given):
    return [run.id for run in compare(task, limit, make_filter(given))]


def test_runs_on_other_data_are_not_ranked_together(place):
    path = place / "mlruns" / "runs" / "aaaa" / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "data_fingerprint": "f00d", "data": "other.csv"}))
    order = chosen()
    others = [run for run in order if run != "aaaa"]
    assert order.index("aaaa") in (0, len(order) - 1) and others == ["bbbb", "cccc", "dddd"]
    assert chosen(data="other.csv") == ["aaaa"] == chosen(data="f00d")


def test_the_best_run_stands_first_and_one_without_a_metric_last(capsys):
    assert chosen() == ["bbbb", "aaaa", "cccc", "dddd"]
    assert chosen(limit=1) == ["bbbb"] and chosen(task=None, limit=1) == ["eeee", "bbbb"]
    assert "is away (connection refused); showing the records" in capsys.readouterr().err


def test_runs_are_filtered_by_backend_recipe_tag_and_date():
    assert chosen(backend="jax") == ["aaaa", "dddd"] == chosen(tag="backend=jax")
    assert chosen(recipe="adult-mlp") == ["aaaa", "cccc"] and chosen(recipe="adult-mlp", backend="jax") == ["aaaa"]
    assert chosen(since="2026-11-04") == ["cccc", "dddd"]
    assert chosen(until="2026-11-03") == ["bbbb", "aaaa"], "the whole of that day"
    assert chosen(since="2026-11-03T23:00", until="2026-11-04T00:00") == ["bbbb"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tabluar",), "Did you mean 'tabular'?"),
        (("--since", "yesterday"), "--since yesterday: expected a date"),
        (("--since", "2026-11-05", "--until", "2026-11-03"), "lies before --since"),
        (("--tag", "backend"), "--tag backend: expected NAME=VALUE"),
        (("--backend", "jaxx"), "Did you mean 'jax'?"),
        (("--recipe", "adult-mpl"), "Did you mean 'adult-mlp'?"),
        (("tabular", "--html", "nowhere/page.html"), "the folder nowhere is not there"),
        (("tabular", "--since", "2027-01-01", "--html", "page.html"), "no such run to show"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(arguments, words, capsys, place):
    assert triptych.main(["compare", *arguments]) == 2
    out, err = capsys.readouterr()
    assert words in err.splitlines()[-1] and out == "" and not (place / "page.html").exists()


def test_no_runs_are_an_empty_table_and_no_error(capsys):
    assert triptych.main(["compare", "tabular", "--since", "2027-01-01", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"rows": []}


def test_the_page_holds_every_run_and_nothing_from_elsewhere(place):
    write_page(place / "page.html", compare("tabular", wanted=Filter()))
    text = (place / "page.html").read_text()
    held = json.loads(re.search(r"const RUNS = (.*);\n", text).group(1))
    assert [run["run"] for run in held] == ["bbbb", "aaaa", "cccc", "dddd"]
    assert held[2]["params"]["model"] == "</script><b>", "unharmed in the data"
    assert text.count("</script>") == 1 and "http" not in text and "src=" not in text
    assert held[0]["curves"] == {"loss": [[1, 1.0], [2, 0.5]], "val_loss": [[1, 1.1], [2, None]]}


def test_a_date_with_a_time_zone_is_refused():
    with pytest.raises(UserError, match="without a time zone"):
        make_filter({"since": "2026-11-03T10:00+02:00"})
