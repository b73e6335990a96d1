"""Plain text: windows over its tokens, splits by position, what is read of folders, what cannot be learnt from."""

import os
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest

from apps import text_generation as app
from apps.common.data.fingerprint import example_digests
from apps.common.data.text import masking, overlap
from apps.common.data.text.plain import (
    StoredIds,
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


# What was trained on, found again in another text


def kept(ids):
    """Ids in a file, as a text's are."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - it goes with the ids
    file.write(np.asarray(ids, "uint16").tobytes())
    file.flush()
    return StoredIds(file, np.dtype("uint16"), 0, len(ids), "")


def test_a_number_stands_for_some_ids_side_by_side_wherever_they_are():
    rows = np.random.default_rng(0).integers(0, 5, (2, 40))
    rows[1, 7:17] = rows[0, 3:13]
    found = overlap.rolled(rows, 10)
    assert found.shape == (2, 31) and found[0, 3] == found[1, 7]
    alike = {(a, i, b, j) for a in range(2) for b in range(2) for i in range(31) for j in range(31) if found[a, i] == found[b, j]}
    same = {(a, i, b, j) for a, i, b, j in np.ndindex(2, 31, 2, 31) if (rows[a, i : i + 10] == rows[b, j : j + 10]).all()}
    assert alike == same


def test_windows_of_a_text_that_was_trained_on_are_known_wherever_they_begin():
    generator = np.random.default_rng(1)
    ids, other = (generator.integers(0, 50, 3000) for _ in range(2))
    known = Windows(kept(ids), 31, per_epoch=4).known_by()
    assert evenly(kept(ids), 31, 100).known_again(known).all()
    assert not evenly(kept(other), 31, 100).known_again(known).any()
    mixed = np.concatenate([other[:1005], ids[517:1517], other[1005:2005]])
    windows = Windows(kept(mixed), 31, stride=32)
    expected = [(max(0, min(start + 32, 2005) - max(start, 1005)) >= 16) for start in range(0, len(mixed) - 31, 32)]
    found = windows.known_again(known)
    assert np.sum(found != expected) <= 2 and found.sum() > 28  # at most the two at its ends, where no whole piece stands
    older = example_digests(windows)[[2, 5]]  # what bundles kept before
    np.testing.assert_array_equal(np.flatnonzero(windows.known_again(older)), [2, 5])
    some = windows.subset(np.flatnonzero(~found)[5:9])
    np.testing.assert_array_equal(some.take([2])[0], windows.take(np.flatnonzero(~found)[7:8])[0])
    assert len(some) == 4 and not some.known_again(known).any()


def test_masked_passages_of_a_text_that_was_trained_on_are_known_wherever_they_begin():
    class Marks(SimpleNamespace):
        def __len__(self):
            return 200

    generator, marks = np.random.default_rng(2), Marks(begin=1, end=2, mask=3)
    ids = generator.integers(4, 200, 1000)
    known = masking.MaskedTexts(ids, 18, marks).known_by()
    moved = masking.MaskedTexts(np.concatenate([generator.integers(4, 200, 325), ids]), 18, marks)
    found = moved.known_again(known)
    assert not found[:20].any() and found[21:-2].all()
    some = moved.subset([30, 40])
    for ours, whole in zip(some.take([1]), moved.take([40]), strict=True):
        np.testing.assert_equal(ours, whole)
