"""What a user can get wrong with data, bundles and disks: one line, exit code 2, nothing half-written, nothing executed."""

import errno
import io
import json
import shutil
import zipfile
from pathlib import Path

import keras
import pytest
from image_samples import class_folders, png_bytes, save
from PIL import Image

import triptych
from apps import image_classification, tabular
from apps.common import files
from apps.common.bundles.bundle import record_digest, save_bundle
from apps.common.options.declare import make_config
from apps.common.records.mlflow import client
from apps.common.training import run as life

IRIS_ROW = [f"{name} (cm)={value}" for name, value in
            {"sepal length": 5, "sepal width": 3, "petal length": 1.5, "petal width": 0.2}.items()]  # fmt: skip


pytestmark = pytest.mark.once


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    """Run a command that must be refused in one line before a run is opened; returns the line."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        capsys.readouterr()
        code = triptych.main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        assert code == 2 and out == "", err
        lines = err.strip().splitlines()
        assert len(lines) == 1 and "Traceback" not in err, err
        assert not (tmp_path / "mlruns").exists()
        return lines[0]

    return command


def bundle_of(app, folder, **options):
    """An untrained bundle of the app's default data."""
    config = make_config(app.Config, {"hidden_dims": (4,), "model": "mlp", **options})
    data = app.load_data(config)
    record = {"task": life.task_name(app), "options": life.to_plain(config), "about": data.about, "metrics": {}, "versions": {}}
    save_bundle(folder, life.make_model(app, config, data), record, {})
    return folder


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    bundle_of(image_classification, folder / "digits", dropout=0.0)
    return bundle_of(tabular, folder / "iris"), folder / "digits"


@pytest.fixture
def iris(bundles, tmp_path):
    return shutil.copytree(bundles[0], tmp_path / "iris")


@pytest.fixture
def digits(bundles, tmp_path):
    return shutil.copytree(bundles[1], tmp_path / "digits")


def change_record(folder, **changes):
    record = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**record, **changes}))


def sign(folder):
    """The checksums that belong to what the bundle holds now, as someone who means harm would write them."""
    record = json.loads((folder / "bundle.json").read_text())
    checksums = {"model.keras": files.sha256(folder / "model.keras"), "bundle.json": record_digest(record)}
    change_record(folder, checksums=checksums)


def replace_model(folder, content):
    (folder / "model.keras").write_bytes(content)
    sign(folder)


# --- bundles


def test_a_bundle_predicts_until_it_is_changed(iris, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert triptych.main(["predict", str(iris), *IRIS_ROW, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["predictions"][0]["class"] in ("setosa", "versicolor", "virginica")


def test_a_changed_byte_in_the_model_is_found_by_its_checksum(iris, refused):
    content = bytearray((iris / "model.keras").read_bytes())
    content[len(content) // 2] ^= 1
    (iris / "model.keras").write_bytes(content)
    line = refused("predict", iris, *IRIS_ROW)
    assert "model.keras" in line and "its checksum is wrong" in line


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "model.keras").unlink(), "model.keras: missing from the bundle"),
        (lambda folder: (folder / "bundle.json").write_text('{"format": 1'), "bundle.json: cannot be read"),
        (lambda folder: change_record(folder, checksums={}), "has no checksum"),
        (lambda folder: change_record(folder, checksums={"../../etc/passwd": "0"}), "missing from the bundle"),
        (lambda folder: change_record(folder, about={}), "bundle.json: its checksum is wrong"),
        (lambda folder: (change_record(folder, task="tabluar"), sign(folder)), "a task this version does not have"),
        (lambda folder: replace_model(folder, b"not a model at all"), "model.keras"),
    ],
    ids=["no model", "cut record", "no checksum", "file outside", "changed record", "unknown task", "no archive"],
)
def test_a_damaged_bundle_is_refused(iris, refused, spoil, words):
    spoil(iris)
    assert words in refused("predict", iris, *IRIS_ROW)


def test_a_bundle_of_another_task_is_refused(iris, refused, tmp_path):
    change_record(iris, task="image-classification")
    (tmp_path / "picture.png").write_bytes(png_bytes())
    assert "bundle.json" in refused("predict", iris, tmp_path / "picture.png")


def test_the_input_of_another_task_is_refused(iris, digits, refused, tmp_path):
    (tmp_path / "picture.png").write_bytes(png_bytes())
    assert "picture.png" in refused("predict", iris, tmp_path / "picture.png")
    assert "no such file" in refused("predict", digits, *IRIS_ROW)


def test_a_bundle_with_a_lambda_layer_is_refused_and_its_code_never_runs(iris, refused, tmp_path):
    mark = tmp_path / "executed"
    path, inputs = str(mark), keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: (open(path, "w").close(), x)[1])(inputs))
    assert mark.exists(), "its code runs where it is let"
    mark.unlink()
    model.save(tmp_path / "evil.keras")
    replace_model(iris, (tmp_path / "evil.keras").read_bytes())
    line = refused("predict", iris, *IRIS_ROW)
    assert "model.keras" in line and "code" in line and not mark.exists()


@pytest.mark.parametrize(
    ("module", "name"), [("os", "system"), ("subprocess", "Popen"), ("builtins", "eval"), ("a_package_that_is_not", "Layer")]
)
def test_a_bundle_that_names_a_class_from_elsewhere_is_refused(iris, refused, tmp_path, module, name):
    mark = tmp_path / "executed"
    changed = io.BytesIO()
    with zipfile.ZipFile(iris / "model.keras") as archive, zipfile.ZipFile(changed, "w") as target:
        for member in archive.namelist():
            content = archive.read(member)
            if member == "config.json":
                config = json.loads(content)
                evil = {"module": module, "class_name": name, "config": {"name": f"touch {mark}"}, "registered_name": None}
                config["config"]["layers"][1] = {**config["config"]["layers"][1], **evil}
                content = json.dumps(config)
            target.writestr(member, content)
    replace_model(iris, changed.getvalue())
    line = refused("predict", iris, *IRIS_ROW)
    assert "model.keras" in line and not mark.exists()


# --- images


def truncated_images(root):
    class_folders(root, count=8)
    for path in sorted(root.rglob("*.png"))[:2]:
        path.write_bytes(path.read_bytes()[:60])


def zero_byte_images(root):
    class_folders(root, count=8)
    for path in sorted(root.rglob("*.png"))[:2]:
        path.write_bytes(b"")


def mislabelled_images(root):
    class_folders(root, count=8)
    for path in sorted(root.rglob("*.png"))[:2]:
        path.write_text("this is a text file")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda root: root.mkdir(), "the folder is empty"),
        (lambda root: save(root / "0.png"), "labels missing"),
        (lambda root: (root.mkdir(), (root / "notes.txt").write_text("x")), "no image found"),
        (lambda root: class_folders(root, classes=("cat",)), "a single class (cat)"),
        (lambda root: (class_folders(root), save(root / "cow" / "0.png")), "one example only of class cow"),
        (truncated_images, "2 of 16 images cannot be read"),
        (zero_byte_images, "zero bytes"),
        (mislabelled_images, "not an image"),
        (lambda root: root.write_bytes(b""), "the file is empty"),
    ],
    ids=["empty", "no labels", "no images", "one class", "lone example", "truncated", "zero bytes", "text", "empty file"],
)
def test_bad_image_data_are_refused_before_a_run_is_opened(refused, tmp_path, write, words):
    write(tmp_path / "data")
    assert words in refused("train", "image-classification", "--data", tmp_path / "data")


def test_one_unreadable_image_in_forty_is_left_out_and_named(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    class_folders(tmp_path / "data", count=20)
    (tmp_path / "data" / "cat" / "3.png").write_bytes(b"")
    arguments = ("--model", "perceptron", "--epochs", "1")
    assert triptych.main(["train", "image-classification", "--data", str(tmp_path / "data"), *arguments]) == 0
    assert "left out 1 of 40 images that cannot be read (2.5%): cat/3.png (zero bytes)" in capsys.readouterr().err


def enormous_png():
    """A hundred megapixels in some kilobytes."""
    content = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"", "zero bytes"),
        (b"these are words", "not an image"),
        (png_bytes()[:-30], "damaged"),
        (enormous_png(), "megapixels"),
    ],
    ids=["absent", "zero bytes", "text", "truncated", "enormous"],
)
def test_what_is_no_image_cannot_be_predicted(digits, refused, tmp_path, content, words):
    picture = tmp_path / "picture.png"
    if content is not None:
        picture.write_bytes(content)
    line = refused("predict", digits, picture)
    assert picture.name in line and words in line


# --- tables


def rows(*lines, times=10):
    return "a,b,y\n" + "".join(f"{line}\n" for line in lines) * times


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"", (), "empty"),
        (rows("1,2,x", "2,3,z"), ("--target", "z"), "--target z: no such column"),
        (rows("1,2,x", "2,3,z"), ("--target", "9"), "a number from 1 to 3"),
        (rows("1,2,x"), (), "--target y: constant, always x"),
        (rows("1,2,"), (), "missing"),
        (rows("1,2,x", "2,3,z") + "1,1,w\n", (), "one example only of class w"),
        (rows("1,2,x", "2,3,z"), ("--kind", "regression"), "regression needs numbers"),
        (rows("1,2,x", "2,3,z,4"), (), "cells"),
        (rows("inf,2,x", "2,3,z"), (), "infinite"),
        (rows("1,2,x", "2,3,z").encode("utf-16"), (), ""),
        (b"a,b,y\n" + "1,2,\xe9t\xe9\n2,3,hiver\n".encode("latin-1") * 9, (), "UTF-8"),
        (b"PAR1" + bytes(40), (), "Parquet"),
        ("y\n" + "1\n2\n" * 9, (), "only one column"),
    ],
    ids=["empty", "no target", "target number", "constant", "no labels", "lone class", "regression on text", "ragged",
         "infinite", "utf-16", "latin-1", "parquet", "one column"],
)  # fmt: skip
def test_bad_tables_are_refused_before_a_run_is_opened(refused, tmp_path, content, options, words):
    path = tmp_path / "data.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert words in refused("train", "tabular", "--data", path, *options)


def test_an_option_that_does_not_fit_the_target_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").write_text("a,y\n" + "".join(f"{i},{i / 7}\n" for i in range(40)))
    for options, words in (
        (("--loss", "hinge"), "expected auto, mse, mae or huber"),
        (("--class-weights", "balanced"), "there are no classes to weigh"),
    ):
        assert triptych.main(["train", "tabular", "--data", "data.csv", *options]) == 2
        assert words in capsys.readouterr().err.strip().splitlines()[-1]
        assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sepal length (cm)=long", *IRIS_ROW[1:]), "expected a number. Received: 'long'"),
        (("petals=3",), "none of the model's columns"),
        ((*IRIS_ROW, IRIS_ROW[0]), "given twice"),
        ((*IRIS_ROW[:3], "petal width (cm)"), "petal width (cm): expected name=value"),
        (("nothing.csv",), "nothing.csv: no such file"),
    ],
    ids=["text", "unknown", "twice", "no value", "no file"],
)
def test_values_that_do_not_fit_the_columns_cannot_be_predicted(iris, refused, arguments, words):
    assert words in refused("predict", iris, *arguments)


def test_text_where_a_number_belongs_keeps_its_row_with_a_reason(iris, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    header = ",".join(pair.split("=")[0] for pair in IRIS_ROW)
    (tmp_path / "rows.csv").write_text(f"{header}\n5,3,1.5,0.2\n5,three,1.5,0.2\n")
    assert triptych.main(["predict", str(iris), "rows.csv", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["predictions"]
    assert first["class"] and "sepal width (cm)" in second["reason"] and "'three'" in second["reason"]


def test_a_column_that_is_not_given_is_missing_and_named(iris, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert triptych.main(["predict", str(iris), *IRIS_ROW[:3], "--json"]) == 0
    assert "petal width (cm)" in capsys.readouterr().err


def test_a_table_without_a_header_is_read_by_position(iris, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("5,3,1.5,0.2\n6,3,5,2\n")
    assert triptych.main(["predict", str(iris), "rows.csv", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["predictions"]
    assert [row["sepal length (cm)"] for row in found] == ["5", "6"] and all(row["class"] for row in found)


def test_a_class_the_model_does_not_know_cannot_be_evaluated(iris, refused, tmp_path):
    header = ",".join(pair.split("=")[0] for pair in IRIS_ROW)
    (tmp_path / "rows.csv").write_text(f"{header},target\n5,3,1.5,0.2,setosa\n5,3,1.5,0.2,tulip\n")
    assert "'tulip'" in refused("evaluate", iris, "--data", tmp_path / "rows.csv")


# --- disks


def forbid_folders(monkeypatch, name):
    """No folder can be made whose path holds a part of this name."""
    real = Path.mkdir

    def mkdir(path, *arguments, **options):
        if name in path.parts:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        real(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)


@pytest.fixture
def away(tmp_path, monkeypatch):
    """An empty folder, and no tracking store to write to."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fail_on(monkeypatch, name, number):
    """Every flush of a file whose path holds `name` fails with this error."""
    real = files.os.fsync

    def fsync(handle):
        if name in Path(f"/proc/self/fd/{handle}").resolve().as_posix():
            raise OSError(number, "No space left on device" if number == errno.ENOSPC else "Read-only file system")
        real(handle)

    monkeypatch.setattr(files.os, "fsync", fsync)


@pytest.mark.parametrize("name", ["run.json", "arrays.npz", "model.keras"])
def test_a_full_disk_ends_the_run_with_one_line_and_nothing_half_written(away, monkeypatch, capsys, name):
    fail_on(monkeypatch, name, errno.ENOSPC)
    assert triptych.main(["train", "tabular", "--epochs", "1"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "No space left on device" in err.splitlines()[-1]
    left = list((away / "mlruns").rglob("*"))
    assert not [path for path in left if path.name.endswith(".tmp")]
    assert not [path for path in left if path.name in (name, "bundle.json")]


def test_predictions_on_a_full_disk_leave_the_old_file(iris, away, monkeypatch, capsys):
    (away / "out.csv").write_text("old")
    fail_on(monkeypatch, "out.csv", errno.ENOSPC)
    assert triptych.main(["predict", str(iris), *IRIS_ROW, "--output", "out.csv"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert (away / "out.csv").read_text() == "old" and not list(away.glob(".*"))


def test_a_folder_that_may_not_be_written_is_named(away, monkeypatch, capsys):
    forbid_folders(monkeypatch, "mlruns")
    assert triptych.main(["train", "tabular", "--epochs", "1"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "mlruns" in line and "cannot be written (Read-only file system)" in line


def test_a_run_without_a_folder_is_not_left_running_in_the_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forbid_folders(monkeypatch, "runs")
    assert triptych.main(["train", "tabular", "--epochs", "1"]) == 2
    api = client()
    experiment = api.get_experiment_by_name("tabular").experiment_id
    assert [run.info.status for run in api.search_runs([experiment])] == ["FAILED"]


@pytest.mark.parametrize(
    ("output", "words"), [("out.xls", ".csv, .json or .jsonl"), ("nowhere/out.csv", "nowhere is not there")]
)
def test_an_output_that_cannot_be_written_is_refused(iris, refused, output, words):
    assert words in refused("predict", iris, *IRIS_ROW, "--output", output)
