"""The gallery's page: a picture a task, and the sheets of what recipes drew."""

import numpy as np
import pytest
from PIL import Image

from apps.common.errors import UserError
from bench import gallery

pytestmark = pytest.mark.once  # nothing in it depends on the backend


def test_the_sheet_of_a_recipes_bundle_is_kept_beside_its_command(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "FOLDER", tmp_path / "docs" / "gallery")
    monkeypatch.setattr(gallery, "HOUSE", tmp_path)
    (tmp_path / "docs").mkdir()
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    Image.fromarray(np.full((70, 1120, 3), (200, 10, 10), "uint8")).save(bundle / "samples.png")
    assert gallery.main(["--bundle", f"mnist-gan={bundle}"]) == 0
    kept = Image.open(tmp_path / "docs" / "gallery" / "mnist-gan.png").convert("RGB")
    assert kept.size == (560, 35) and kept.getpixel((9, 9)) == (200, 10, 10)
    page = (tmp_path / "docs" / "gallery.md").read_text()
    _, section = page.split("## Generated pictures\n")
    assert "![mnist-gan](gallery/mnist-gan.png)" in section and "--recipe mnist-gan`" in section and "mnist-vae" not in section


def test_a_bundle_without_a_sheet_and_a_recipe_that_is_none_are_refused(tmp_path):
    for given, words in (
        (f"mnist-gam={tmp_path}", "expected RECIPE=PATH with a recipe of image-generation. Did you mean 'mnist-gan'"),
        (f"mnist-gan={tmp_path}", "no samples.png in"),
        ("mnist-gan", "no samples.png in it"),
    ):
        with pytest.raises(UserError, match=words):
            gallery.main(["--bundle", given])
