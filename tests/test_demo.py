"""The page to try a model: what it is told of the model, what it answers, and whom it does not answer."""

import base64
import json
import socket
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from app_cases import APP_CASES
from fastapi.testclient import TestClient
from runs import server, train

from apps.common.app import Inputs
from apps.common.bundles.demo import described, page
from apps.common.bundles.served import Served
from apps.common.errors import UserError
from apps.common.options.declare import option

pytestmark = pytest.mark.once  # nothing in it depends on the backend

HERE = "http://127.0.0.1:7860"


@dataclass(frozen=True)
class PredictOptions:
    folder: str = option("made", "where they go")
    times: int = option(1, "how often", low=1, high=3)


def copies(model, inputs, about, options):
    """A file for each input, as often longer as it is asked to be."""
    Path(options.folder).mkdir()
    rows = []
    for path in map(Path, inputs):
        if not path.read_bytes():
            rows.append({"reason": "empty"})
            continue
        made = Path(options.folder, f"{path.name}.png")
        made.write_bytes(path.read_bytes() * options.times)
        rows.append({"picture": str(made), "of": "folder/none.png"})
    return rows


def reply(model, turns, about, options):
    if turns[-1][1] == "wrong":
        raise UserError("not this")
    yield from (" ".join(text for _, text in turns), " again" * options.times)


def opened(kind, **functions):
    app = SimpleNamespace(__doc__="Do it.", INPUTS=Inputs(kind, (".png",)), PredictOptions=PredictOptions, **functions)
    about = {"dialogue": True, "class_names": ["a", "b"]}
    bundle = SimpleNamespace(about=about, task="task", folder=Path("nowhere"))
    return TestClient(page(Served(app, None, about), described(app, bundle, "m")), base_url=HERE)


def test_files_come_and_what_is_written_of_them_goes_and_nothing_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    client, sent = opened("files", predict=copies), base64.b64encode(b"abc").decode()
    rows = [{"base64": sent}, {"base64": ""}]
    one, other = client.post("/predict", json={"rows": rows, "options": {"times": "2"}}).json()["predictions"]
    assert other == {"reason": "empty"} and one["of"] == "folder/none.png"
    assert one["picture"]["type"] == "image/png" and base64.b64decode(one["picture"]["base64"]) == b"abcabc"
    assert not list(tmp_path.iterdir())
    # The folder is the page's own; files of this machine are not read by their paths.
    assert [each["name"] for each in client.get("/model").json()["options"]] == ["times"]
    (tmp_path / "secret").write_text("secret")
    answer = client.post("/predict", json={"rows": [{"path": str(tmp_path / "secret")}]})
    assert answer.status_code == 400 and "base64" in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "rows: expected"),
        ({"rows": ["a"]}, "rows: expected"),
        ({"rows": [{"base64": "YQ=="}], "options": {"times": "9"}}, "--times"),
    ],
)
def test_what_is_asked_wrongly_is_said_in_a_line(body, named):
    answer = opened("files", predict=copies).post("/predict", json=body)
    assert answer.status_code == 400 and named in answer.json()["error"]


def test_a_dialogue_comes_in_pieces_and_its_faults_before_any():
    client = opened("texts", reply=reply, predict=copies)
    assert client.get("/model").json()["dialogue"]
    said = client.post("/chat", json={"turns": [[False, "one"], [True, "two"], [False, "three"]], "options": {"times": "2"}})
    assert said.text == "one two three again again"
    refused = client.post("/chat", json={"turns": [[False, "wrong"]]})
    assert refused.status_code == 400 and refused.json() == {"error": "not this"}
    silent = opened("texts", predict=copies).post("/chat", json={"turns": [[False, "a"]]})
    assert silent.json() == {"error": "this model does not converse"}


def test_other_pages_and_other_names_of_this_machine_are_not_answered():
    client = opened("files", predict=copies)
    assert client.get("/").text.startswith("<!doctype html>")
    assert client.get("/", headers={"Host": "elsewhere.example"}).status_code == 400
    body = json.dumps({"rows": [{"base64": "YQ=="}]})  # as a form of another page can send it, without asking
    assert client.post("/predict", content=body, headers={"Content-Type": "text/plain"}).status_code == 415


def test_the_command_serves_a_model_on_loopback(tmp_path):
    case = APP_CASES["tabular"]
    case.write(tmp_path)
    result = train("tabular", *case.options, cwd=tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    child, where = server().start("demo", result["model"], "--port", port, cwd=tmp_path), f"http://127.0.0.1:{port}"
    try:
        about = within_a_minute(lambda: json.load(urllib.request.urlopen(f"{where}/model", timeout=5)))
        assert about["task"] == "tabular" and about["fields"] and about["example"].keys() <= set(about["fields"])
        body = json.dumps({"rows": [about["example"]]}).encode()
        request = urllib.request.Request(f"{where}/predict", body, {"Content-Type": "application/json"})
        assert len(json.load(urllib.request.urlopen(request, timeout=60))["predictions"]) == 1
    finally:
        child.kill()
        child.wait()


def within_a_minute(ask):
    for _ in range(600):
        try:
            return ask()
        except urllib.error.URLError:
            time.sleep(0.1)
    raise AssertionError("no answer within a minute")
