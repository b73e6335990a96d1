"""Plain text: windows over its tokens, splits by position, what is read of folders, what cannot be learnt from."""

import os

import numpy as np
import pytest

from apps import text_generation as app
from apps.common.data.text.plain import (
    Vocabulary,
    Windows,
    documentation_strings,
    encode_pieces,
    evenly,
    read_text,
    split_by_position,
)
from apps.common.errors import UserError
from apps.common.training.batches import Batches

pytestmark = pytest.mark.once  # nothing in it depends on the backend


def stored(text):
    return encode_pieces(lambda: [text], "char", None, [])[0]


def test_targets_are_the_inputs_moved_on_by_one():
    ids, vocabulary, _ = encode_pieces(lambda: ["abcdef" * 9], "char", None, [])
    assert vocabulary.characters == "abcdef"
    windows = Windows(ids, 5)
    x, y = windows.take([0, 3, len(windows) - 1])
    np.testing.assert_array_equal(x[0], [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(x[:, 1:], y[:, :-1])
    assert len(windows) == 54 - 5 and y[2, -1] == 5 and x.dtype == "int32"


def test_an_epoch_follows_from_its_seed_and_covers_the_text():
    windows = Windows(stored("hello world " * 50), 6, per_epoch=64)
    one, same, other = (Batches(windows, 16, seed) for seed in (1, 1, 2))
    assert len(one) == 4
    for step in range(4):
        np.testing.assert_array_equal(one[step][0], same[step][0])
    assert not np.array_equal(one.table, other.table)
    before = one.table.copy()
    one.set_epoch(1)
    assert not np.array_equal(one.table, before)
    assert before.max() > 400 and before.min() < 100 and before.max() < windows.count


def test_splits_follow_one_another_and_share_nothing():
    ids = stored("".join(chr(65 + i % 50) for i in range(1000)))
    parts = split_by_position(ids, 8)
    assert [(part.start, part.stop) for part in parts] == [(50, 900), (0, 50), (900, 1000)]
    tight = split_by_position(stored("ab" * 14), 8)
    assert [len(part) for part in tight] == [10, 9, 9]
    assert all(len(evenly(part, 8, 100)) == 1 for part in tight)


def test_no_more_windows_than_asked_are_taken_evenly():
    ids = stored("abcdefgh" * 500)
    windows = evenly(ids, 8, 50)
    assert 50 <= len(windows) <= 51 and windows.take([len(windows) - 1])[1].shape == (1, 8)
    assert len(evenly(ids, 8, 10_000)) == 499


def test_characters_survive_being_cut_between_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("apps.common.data.text.plain.PIECE", 3)
    text = "Grüße, 世界! \U0001f600 naïve\n" * 5
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    ids, vocabulary, _ = read_text(tmp_path / "a.txt", "char")
    say = vocabulary.decoder()
    assert "".join(say(int(token)) for token in ids.windows([0], len(ids))[0]) == text
    ids, vocabulary, _ = read_text(tmp_path / "a.txt", "byte")
    say = vocabulary.decoder()
    assert "".join(say(int(token)) for token in ids.windows([0], len(ids))[0]) == text and len(vocabulary) == 256


def test_a_folder_is_read_in_order_without_what_is_about_the_data(tmp_path):
    for name, text in (("b.txt", "two"), ("a.txt", "one\n"), ("SOURCE.txt", "#")):
        (tmp_path / name).write_text(text)
    ids, vocabulary, notes = read_text(tmp_path, "char")
    say = vocabulary.decoder()
    assert "".join(say(int(token)) for token in ids.windows([0], len(ids))[0]) == "one\ntwo\n"
    assert "SOURCE.txt" in notes[0]


def test_the_default_text_is_english():
    text = documentation_strings()
    assert len(text) > 200_000 and text.isascii()
    assert text.count(" the ") > 2000 and text.count(" return") > 300


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        ("naïve ".encode("latin1") * 99, "byte 2 is 0xef"),
        (b"plain text\0" * 50, "NUL byte at byte 10"),
        ("text ".encode("utf-16") * 50, "NUL byte"),
        (b"too short", "too few for --block-size 32"),
    ],
)
def test_a_text_that_cannot_be_learnt_is_refused(content, words, tmp_path):
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(UserError, match=words):
        app.load_data(app.Config(data=str(tmp_path / "text.txt")))


def test_a_folder_without_text_and_unknown_characters_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no \.txt file"):
        read_text(tmp_path, "char")
    with pytest.raises(UserError, match=r"never seen: 'x' \(U\+0078\), 'é'"):
        Vocabulary("abc").encode("abxé")


def test_a_long_text_is_never_held_whole(tmp_path):
    import tracemalloc

    (tmp_path / "long.txt").write_bytes(b"All work and no play makes Jack a dull boy.\n" * 2_000_000)
    tracemalloc.start()
    data = app.load_data(app.Config(data=str(tmp_path / "long.txt"), batch_size=4, steps=50))
    batches = Batches(data.train, 4, 0)
    for step in range(50):
        batches[step]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert os.path.getsize(tmp_path / "long.txt") > 80e6 and peak < 75e6, peak
    assert len(data.validation) <= 1001 and len(data.test) <= 20_001
