"""A page in the browser to try a model: pictures, texts or a row go in, and what `predict` says comes out, pictures drawn.

It is served on the loopback alone and answers no other page: requests must name this machine and be JSON, which a browser
sends to another address only where that allows it.
"""

import base64
import itertools
import json
import mimetypes
import shlex
import sys
import tempfile
import threading
from pathlib import Path

from apps.common.app import inputs_of
from apps.common.bundles.bundle import load_model
from apps.common.bundles.served import MODEL_FILE, Served, example_fields, input_columns
from apps.common.errors import UserError
from apps.common.options.declare import make_config, options_of
from apps.common.options.ports import LOOPBACK, refuse_taken
from apps.common.output import plain

PAGE = Path(__file__).with_name("demo.html")
LARGEST = 200_000_000  # bytes of a request


def serve(app, bundle, name, port):
    """The page, until Ctrl-C.

    Args:
        app: The app's module.
        bundle: An open `Bundle` of it.
        name: Of the model, as typed.
        port: On the loopback.
    Raises:
        UserError: The port is taken.
    """
    import uvicorn

    refuse_taken(port)
    made = page(Served(app, load_model(bundle), bundle.about), described(app, bundle, name))
    print(f"http://{LOOPBACK}:{port}/  (Ctrl-C ends it)", file=sys.stderr, flush=True)
    uvicorn.run(made, host=LOOPBACK, port=port, log_level="warning")


def page(served, about):
    """The application: the page, what it must know of the model, its predictions and its side of a dialogue.

    Args:
        served: The `Served` bundle.
        about: What `described` says of it.
    """
    from fastapi import FastAPI, Request
    from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app, turn = FastAPI(openapi_url=None), threading.Lock()  # a model computes for one at a time
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])

    @app.middleware("http")
    async def refuse_other_pages(request: Request, call_next):
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if request.method == "POST" and kind != "application/json":
            return JSONResponse({"error": "expected JSON"}, 415)
        if int(request.headers.get("content-length") or 0) > LARGEST:
            return JSONResponse({"error": f"expected at most {LARGEST // 1_000_000} MB; give less at once"}, 413)
        return await call_next(request)

    @app.exception_handler(UserError)
    def said(request: Request, error: UserError):
        return JSONResponse({"error": str(error)}, 400)

    @app.get("/", response_class=HTMLResponse)
    def first_page():
        return PAGE.read_text(encoding="utf-8")

    @app.get("/model")
    def model():
        return about

    @app.post("/predict")
    def predict(body: dict):
        with turn:
            return {"predictions": plain(predictions(served, body.get("rows"), body.get("options")))}

    @app.post("/chat")
    def chat(body: dict):
        pieces = answer_pieces(served, body.get("turns"), body.get("options"))
        with turn:
            first = next(pieces, "")  # what is wrong with the turns is said before the answer begins

        def text():
            with turn:
                yield from itertools.chain([first], pieces)

        return StreamingResponse(text(), media_type="text/plain")

    return app


def described(app, bundle, name):
    """What the page shows before anything is asked: the task, the fields of an input, the options, an example."""
    inputs, about = inputs_of(app), bundle.about
    wanted = getattr(app, "PredictOptions", None)
    own = [] if wanted is None else [option for key, option in options_of(wanted).items() if key != "folder"]
    typed = typed_example(bundle.folder)
    return {
        "name": str(name),
        "task": bundle.task,
        "about": app.__doc__.strip().splitlines()[0],
        "kind": inputs.kind,
        "fields": input_columns(app, about, example_fields("rows", typed)) if inputs.kind == "rows" else [],
        "choices": list(about.get(inputs.named, ()))[:100] if inputs.named else [],
        "dialogue": hasattr(app, "reply") and bool(about.get("dialogue")),
        "example": file_example(typed) if inputs.kind == "files" else example_fields(inputs.kind, typed),
        "options": [
            {"name": each.name, "default": shown(each.default), "choices": list(each.choices), "help": each.help} for each in own
        ],
    }


def typed_example(folder):
    """The input that the training gave as an example, as typed; nothing where a bundle has none."""
    try:
        return json.loads((folder / MODEL_FILE).read_bytes())["metadata"]["example"] or ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def shown(value):
    """A default as one types it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else "none" if value is None else str(value)


def file_example(typed):
    """The file that the example names, `{"name", "base64"}`, or nothing where it is not there any more."""
    try:
        path = Path(shlex.split(typed)[0])
        return {"name": path.name, "base64": base64.b64encode(path.read_bytes()).decode()}
    except (OSError, ValueError, IndexError):
        return {}


def predictions(served, rows, options):
    """The rows of the answer; a file that was written for one is in its place, `{"file", "type", "base64"}`.

    Args:
        served: The bundle.
        rows: A list of dicts: `base64` for files, `text`, `input` or the model's columns.
        options: `{name: as typed}` of the app's `PredictOptions`.
    Raises:
        UserError: An input or an option is not as it must be.
    """
    from mlflow.exceptions import MlflowException

    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError("rows: expected a list with an object for each input")
    if served.inputs.kind == "files" and not all(isinstance(row.get("base64"), str) for row in rows):
        raise UserError("rows: expected the content of a file as base64")
    with tempfile.TemporaryDirectory(prefix="triptych-") as folder:
        wanted = getattr(served.app, "PredictOptions", None)
        given = dict(options or {})
        if wanted is not None and "folder" in options_of(wanted):
            given["folder"] = str(Path(folder, "made"))
        try:
            found = served.predict(rows, given)
        except MlflowException as error:
            raise UserError(error.message) from None
        kept = [[(key, value) for key, value in row.items() if value is not None] for row in found.to_dict("records")]
        dropped = "input" if served.inputs.kind == "files" else ""  # the name that the upload had for a moment
        return [{key: with_files(value, folder) for key, value in row if key != dropped} for row in kept]


def with_files(value, folder):
    """The value, and in the place of a path within the folder the file."""
    if isinstance(value, list):
        return [with_files(each, folder) for each in value]
    if not isinstance(value, str) or not value.startswith(folder) or not Path(value).is_file():
        return value
    content = base64.b64encode(Path(value).read_bytes()).decode()
    return {"file": Path(value).name, "type": mimetypes.guess_type(value)[0] or "application/octet-stream", "base64": content}


def answer_pieces(served, turns, options):
    """The answer to a dialogue, piece by piece.

    Args:
        served: A bundle whose app has `reply`.
        turns: `[[whether it is the model's, text], ...]`.
        options: As of `predictions`.
    Raises:
        UserError: The model does not converse, or a turn cannot be read.
    """
    if not hasattr(served.app, "reply"):
        raise UserError("this model does not converse")
    if not isinstance(turns, list) or not turns or not all(isinstance(each, list) and len(each) == 2 for each in turns):
        raise UserError("turns: expected a list of [whether it is the model's, text]")
    wanted = make_config(served.app.PredictOptions, dict(options or {}))
    return iter(served.app.reply(served.model, [(bool(own), str(text)) for own, text in turns], served.about, wanted))
