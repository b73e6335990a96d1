"""Large tables, whose columns are read as what their first rows are, hold what small ones hold."""

import numpy as np
import pytest

from apps.common.data.tables import rows
from apps.common.data.tables.reading import read_table

HEAD = "weight,count,when,city,note,size\n"


def line(number):
    return f"{number / 4},{number % 7},2024-01-{1 + number % 28:02} 10:{number % 60:02},{'AB'[number % 2]},n{number},{number}.5\n"


def both(path, text, monkeypatch, **options):
    """The table read as a small one and as a large one, and as what the columns of the latter came."""
    path.write_text(text, encoding="utf-8")
    small, types = read_table(path, **options), []
    cut = rows._cut_fast

    def noted(source, *arguments, **named):
        columns = cut(source, *arguments, **named)
        types[:] = [str(column.type) for column in columns or ()]
        return columns

    monkeypatch.setattr(rows, "SAMPLED", 2000)
    monkeypatch.setattr(rows, "_cut_fast", noted)
    return small, read_table(path, **options), types


def same(small, large):
    assert small.roles == large.roles and small.names == large.names and small.notes == large.notes
    for name in small.frame:
        a, b = small.frame[name].to_numpy(), large.frame[name].to_numpy()
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_plain_numbers_and_times_come_as_such_and_the_rest_as_text(tmp_path, monkeypatch):
    small, large, types = both(tmp_path / "t.csv", HEAD + "".join(map(line, range(400))), monkeypatch)
    same(small, large)
    encoded = "dictionary<values=string, indices=int32, ordered=0>"
    assert types == ["double", encoded, "timestamp[us]", encoded, "string", "double"]


LATE = {
    "a word": "oops,1,2024-01-01 10:00,A,x,1.5\n",
    "missing": "NaN,,?,n/a,null,none\n",
    "an infinity": "1e400,1,2024-01-01,A,x,2.5\n",
    "spaces": " 2.5 , 3,2024-01-01 10:00 , A ,x,1.5\n",
    "another date": "2,5,1/2/2024,A,x,1.5\n",
    "a short row": "1,2\n",
    "quotes": '1.5,3,2024-01-01 10:00,"A, or B",x,2.5\n',
    "a zone": "1_000,3,2024-01-01T10:00:00Z,A,x,2.5\n",
    "money": "$2.5,1,2024-01-01 10:00,A,x,1.234.5\n",
}


@pytest.mark.parametrize("late", LATE.values(), ids=LATE)
def test_a_cell_that_is_not_as_the_first_ones_changes_nothing(tmp_path, monkeypatch, late):
    text = HEAD + "".join(map(line, range(400))) + late
    same(*both(tmp_path / "t.csv", text, monkeypatch)[:2])


def test_without_a_header_and_with_roles_that_are_known(tmp_path, monkeypatch):
    text = "".join(map(line, range(400)))
    same(*both(tmp_path / "t.csv", text, monkeypatch)[:2])
    monkeypatch.undo()
    small, _, _ = both(tmp_path / "t.csv", HEAD + text, monkeypatch)
    monkeypatch.undo()
    known = {**small.roles, "size": {"role": "category"}}
    small, large, types = both(tmp_path / "t.csv", HEAD + text, monkeypatch, roles=known, names=small.names)
    same(small, large)
    assert types[5] == "string", "a category keeps its very text"


def test_the_target_stays_text(tmp_path, monkeypatch):
    _, large, types = both(tmp_path / "t.csv", HEAD + "".join(map(line, range(400))), monkeypatch, target="weight")
    assert types[0] == "string" and large.frame["weight"][1] == "0.25"


def test_constant_columns_are_left_out_whatever_they_come_as(tmp_path, monkeypatch):
    text = "a,b,c\n" + "".join(f"1.5,2024-01-01,{number}.25\n" for number in range(400))
    small, large, types = both(tmp_path / "t.csv", text, monkeypatch)
    same(small, large)
    assert types == ["double", "timestamp[us]", "double"] and large.roles["a"] == large.roles["b"] == {"role": "constant"}
