"""Steering by the camera: logs, the order of time, mirrored angles, errors in the log's own unit."""

import keras
import numpy as np
import pytest
from app_cases import write_drive
from PIL import Image

from apps import driving as app
from apps.common.bundles.answers import read_items
from apps.common.data.images.driving import decode_cut, draw_drive, read_drive
from apps.common.errors import UserError
from apps.common.options.declare import make_config
from apps.common.reports.explain import grad_cam_of_number

pytestmark = pytest.mark.once  # agreement of the backends and the contract carry it to the others

SHAPE, WHOLE = (20, 40), (0.0, 0.0)


def config(folder, **options):
    return make_config(app.Config, {"data": str(folder), "image_size": "20,40", "width": "2", **options})


def test_a_simulators_log_is_read_in_its_order_whatever_machine_wrote_it(tmp_path):
    write_drive(tmp_path, 12)
    drive, drawn = read_drive(tmp_path / "drive", SHAPE, WHOLE), draw_drive(12, SHAPE, 0)
    np.testing.assert_array_equal(drive.images, drawn.images)
    np.testing.assert_allclose(drive.angles, drawn.angles, atol=1e-4)
    log = tmp_path / "drive" / "driving_log.csv"
    lines = [line.split(",") for line in log.read_text().splitlines()]
    log.write_text("steering,center\n" + "\n".join(f"{cells[3]},IMG/center_{n}.png" for n, cells in enumerate(lines)))
    np.testing.assert_array_equal(read_drive(log, SHAPE, WHOLE).angles, drive.angles)


@pytest.mark.parametrize("separator", [";", "\t"], ids=["semicolons", "tabs"])
@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("point", [".", ","])
def test_a_log_may_have_semicolons_or_tabs_and_decimal_commas(tmp_path, separator, head, point):
    write_drive(tmp_path, 4)
    log = tmp_path / "drive" / "driving_log.csv"
    rows = [["center", "left", "right", "steering"]] * head
    rows += [[f"IMG/center_{n}.png", "l.png", "r.png", f"{n / 4}".replace(".", point)] for n in range(4)]
    log.write_text("\n".join(separator.join(row) for row in rows))
    assert read_drive(log, SHAPE, WHOLE).angles.tolist() == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the log is empty"),
        ("IMG/center_0.png 0.5\n", "a single column, without a comma, semicolon or tab"),
        ("gone.png,l,r,0.5\n", "gone.png is not there"),
        ("IMG/center_0.png,l,r,left\n", "column 4 of the first row is no angle"),
        ("center,throttle\nIMG/center_0.png,1\n", "no column called steering"),
        ("center,steering\nIMG/center_0.png,nan\n", "the angle is nan"),
        ("center,steering\n" + "IMG/center_0.png,0.25\n" * 12, "the angle is 0.25 on all"),
        ("center,steering\n" + "IMG/center_0.png,0.25\n" * 3, "Expected at least 10"),
    ],
)
def test_logs_that_teach_nothing_are_refused_in_one_line(tmp_path, text, words):
    write_drive(tmp_path, 1)
    (tmp_path / "drive" / "driving_log.csv").write_text(text)
    with pytest.raises(UserError) as caught:
        app.load_data(config(tmp_path / "drive"))
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("column", ["frame_id", "camera"])
def test_of_several_cameras_the_centres_is_kept_and_the_others_are_counted(tmp_path, column):
    write_drive(tmp_path, 4)
    lines = [
        f"{n},{camera}_camera,IMG/center_{n}.png,{n / 10 + place}"
        for n in range(4)
        for place, camera in enumerate(("left", "center", "right"))
    ]
    log = tmp_path / "drive" / "driving_log.csv"
    log.write_text(f"index,{column},filename,angle\n" + "\n".join(lines))
    drive = read_drive(log, SHAPE, WHOLE)
    np.testing.assert_allclose(drive.angles, [1.0, 1.1, 1.2, 1.3])
    assert drive.notes == ["8 of 12 rows are left out, of other cameras than the centre's: left_camera, right_camera"]
    log.write_text(f"{column},filename,angle\n" + "\n".join(f"{n},IMG/center_{n}.png,{n}" for n in range(4)))
    drive = read_drive(log, SHAPE, WHOLE)
    assert (len(drive.angles), drive.notes) == (4, [])


def test_missing_pictures_are_counted_and_named(tmp_path):
    write_drive(tmp_path, 40)
    (tmp_path / "drive/IMG/center_7.png").unlink()
    assert "center_7.png is not there" in app.load_data(config(tmp_path / "drive")).notes[0]


def write_two_drives(folder, names):
    """Two drives of two pictures each, called alike, black and white; a log that names the pictures by `names`."""
    for drive, grey in (("run1", 0), ("run2", 255)):
        (folder / drive / "IMG").mkdir(parents=True)
        for number in range(2):
            Image.fromarray(np.full((20, 40, 3), grey, "uint8")).save(folder / drive / "IMG" / f"c{number}.png")
    (folder / "driving_log.csv").write_text("center,steering\n" + "".join(f"{name},{n}\n" for n, name in enumerate(names)))
    return folder


def test_rows_of_two_drives_get_the_pictures_of_their_own(tmp_path):
    names = [f"C:\\data\\{drive}\\IMG\\c{n}.png" for drive in ("run1", "run2") for n in range(2)]
    drive = read_drive(write_two_drives(tmp_path, names), SHAPE, WHOLE)
    assert drive.images[:, 0, 0, 0].tolist() == [0, 0, 255, 255] and not drive.notes


def test_a_row_that_may_mean_two_pictures_is_counted_unless_one_lies_beside_the_log(tmp_path):
    names = ["run1/IMG/c0.png"] * 40 + ["C:\\old\\IMG\\c1.png"]
    drive = read_drive(write_two_drives(tmp_path, names), SHAPE, WHOLE)
    assert len(drive.images) == 40
    assert "line 42 (C:\\old\\IMG\\c1.png may be run1/IMG/c1.png or run2/IMG/c1.png: name its folder" in drive.notes[0]
    (tmp_path / "IMG").mkdir()
    Image.fromarray(np.full((20, 40, 3), 99, "uint8")).save(tmp_path / "IMG" / "c1.png")
    drive = read_drive(tmp_path, SHAPE, WHOLE)
    assert drive.images[-1, 0, 0, 0] == 99 and not drive.notes


def test_the_test_is_the_last_fifth_in_time(tmp_path):
    write_drive(tmp_path)
    data = app.load_data(config(tmp_path / "drive"))
    angles = draw_drive(30, SHAPE, 0).angles
    parts = [app.angles_of(part, data.about) for part in (data.train, data.validation, data.test)]
    assert [len(part) for part in parts] == [21, 3, 6]
    np.testing.assert_allclose(np.concatenate(parts), angles, atol=1e-4)


def test_a_mirrored_picture_turns_the_other_way(tmp_path):
    write_drive(tmp_path)
    moved = app.load_data(config(tmp_path / "drive", brightness="0")).train
    plain = app.load_data(config(tmp_path / "drive", mirror="no", brightness="0")).train
    (x, y), (before, angle) = moved.take(np.arange(21)), plain.take(np.arange(21))
    mirrored = np.array([not np.array_equal(*pair) for pair in zip(x, before, strict=True)])
    assert 3 < mirrored.sum() < 18
    np.testing.assert_array_equal(x[mirrored], before[mirrored, :, ::-1])
    np.testing.assert_array_equal(y[:, 0], np.where(mirrored, -1, 1) * angle[:, 0])


def test_errors_are_in_the_logs_own_unit(tmp_path):
    write_drive(tmp_path)
    settings = config(tmp_path / "drive")
    data = app.load_data(settings)
    model = app.build_model(settings, data)
    metrics = app.evaluate(model, data, settings).metrics
    x, y = data.test.take(np.arange(6))
    true = y[:, 0] * data.about["scale"]
    found = keras.ops.convert_to_numpy(model(x.astype("float32")))[:, 0] * data.about["scale"]
    assert metrics["mse"] == pytest.approx(np.mean((found - true) ** 2), rel=1e-4)
    assert model.evaluate(x, y, verbose=0, return_dict=True)["mse"] == pytest.approx(metrics["mse"], rel=1e-4)
    assert metrics["mse_last_angle"] == pytest.approx(np.mean(np.diff(true) ** 2), rel=1e-4)
    assert metrics["mse_mean_predictor"] == pytest.approx(np.mean((true - data.about["mean"]) ** 2), rel=1e-4)
    rows = app.predict(model, [tmp_path / f"drive/IMG/center_{n}.png" for n in (24, 25)] + [tmp_path / "no.png"], data.about)
    assert [row.get("angle") for row in rows[:2]] == pytest.approx(found[:2].tolist(), rel=1e-4) and "reason" in rows[2]


def test_what_is_cut_away_is_not_seen(tmp_path):
    picture = np.full((100, 60, 3), 10, "uint8")
    picture[:40], picture[80:] = 250, 200
    Image.fromarray(picture).save(tmp_path / "view.png")
    assert (decode_cut(tmp_path / "view.png", (40, 60), (0.4, 0.2)) == 10).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_heat_lies_where_the_number_comes_from_whatever_its_sign(sign):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(1, 1, kernel_initializer="ones")(inputs)
    x = keras.layers.Flatten()(x)
    model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(0.1 * sign))(x))
    image = np.zeros((1, 8, 8, 1), "float32")
    image[0, 2:4, 5:7] = 1
    np.testing.assert_allclose(grad_cam_of_number(model, image)[0], image[0, ..., 0], atol=1e-5)


def test_the_pictures_of_a_log_are_its_middle_cameras(tmp_path):
    write_drive(tmp_path)
    (tmp_path / "log.csv").write_text("left,center,steering\nleft.png,drive/IMG/center_3.png,0.5\n")
    assert [item.value for item in read_items([str(tmp_path / "log.csv")], app.INPUTS)] == [tmp_path / "drive/IMG/center_3.png"]
