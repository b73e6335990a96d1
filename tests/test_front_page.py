"""README says what is there: its table is the one the apps make, its links lead somewhere."""

import re
from pathlib import Path

import pytest

from bench import tasks_table

pytestmark = pytest.mark.once
HOUSE = Path(__file__).resolve().parents[1]


def test_the_table_of_tasks_is_the_one_the_apps_make():
    text = (HOUSE / "README.md").read_text(encoding="utf-8")
    assert tasks_table.written(text) == text, "run: python -m bench.tasks_table"


PAGES = sorted(path.relative_to(HOUSE).as_posix() for path in [*HOUSE.glob("*.md"), *HOUSE.glob("docs/*.md")])


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file(page):
    text = (HOUSE / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#\s]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        if not link.startswith(("http:", "https:")):
            assert ((HOUSE / page).parent / link).exists(), f"{page}: {link}"


def test_readme_is_short_enough_to_be_read():
    assert len((HOUSE / "README.md").read_text(encoding="utf-8").splitlines()) <= 130
