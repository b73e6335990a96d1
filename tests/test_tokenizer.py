"""Tokenizers trained on a user's text."""

import numpy as np
import pytest

from apps.common.data.text.tokenizer import KINDS, Tokenizer, train_tokenizer
from apps.common.errors import UserError

pytestmark = pytest.mark.once
TEXTS = ["the cat sat on the mat", "the dog sat on the log", "cats and dogs: a début, Привет", "a cat's tail"] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_comes_back_from_its_ids(kind):
    made = train_tokenizer(TEXTS, kind, 400)
    for text in TEXTS[:2]:
        (ids,) = made.encode([text])
        assert ids.dtype == np.int32 and ids.min() > made.end and ids.max() < len(made)
        assert made.decode([made.begin, *ids, made.end, 0]) == text


@pytest.mark.parametrize("kind", KINDS)
def test_training_again_gives_the_same_bytes_and_bytes_the_same_tokenizer(kind):
    content = {train_tokenizer(TEXTS, kind, 90 if kind != "byte-bpe" else 280).to_bytes() for _ in range(4)}
    assert len(content) == 1
    loaded = Tokenizer(content.pop())
    assert [list(ids) for ids in loaded.encode(TEXTS)] == [list(ids) for ids in train_tokenizer(
        lambda: iter(TEXTS), kind, 90 if kind != "byte-bpe" else 280).encode(TEXTS)]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_come_first(kind):
    made = train_tokenizer(TEXTS, kind, 300, specials=("mask", "begin"))
    assert [made.token(index) for index in range(4)] == ["[PAD]", "[UNK]", "[BEGIN]", "[MASK]"]
    assert (made.padding, made.unknown, made.begin, made.end, made.mask) == (0, 1, 2, None, 3)
    (ids,) = made.encode(["the cat"], before=[made.begin], after=[made.mask])
    assert ids[0] == 2 and ids[-1] == 3


@pytest.mark.parametrize("kind", KINDS)
def test_the_name_of_a_special_token_in_a_text_is_text_but_where_gaps_are_asked_for(kind):
    made = train_tokenizer(["cut at [PAD], [UNK], [END] or [MASK]"] * 3, kind, 400, specials=("begin", "end", "mask"))
    for text in ("cut at [PAD]", "[END]", "at [MASK] or [UNK]", "cut"):
        (ids,) = made.encode([text])
        assert ids.min() > made.mask
        assert made.decode(ids).replace(" ", "") == text.replace(" ", "")
    assert list(made.encode(["[MASK]"], gaps=True)[0]) == [made.mask]


def test_what_the_training_text_did_not_have_is_unknown():
    words = train_tokenizer(TEXTS, "words")
    assert words.encode(["the zebra sat"])[0][1] == 1 and words.unknown_share(["the zebra"]) == 0.5
    for kind in ("wordpiece", "characters"):
        assert 1 in train_tokenizer(TEXTS, kind).encode(["the 木"])[0]
    byte = train_tokenizer(TEXTS, "byte-bpe", 280)
    assert byte.unknown_share(["the 木"]) == 0 and byte.decode(byte.encode(["the 木"])[0]) == "the 木"


def test_pieces_of_words_are_those_of_the_text():
    made = train_tokenizer(TEXTS, "wordpiece", 400)
    assert [made.token(index) for index in made.encode(["cats sat"])[0]] == ["cats", "sat"]
    pieces = [made.token(index) for index in made.encode(["catdog"])[0]]
    assert pieces[0] == "cat" and all(each.startswith("##") for each in pieces[1:])
    lower = train_tokenizer(["The Cat"] * 3, "words", lowercase=True)
    assert list(lower.encode(["THE"])[0]) == list(lower.encode(["the"])[0]) != [1]


@pytest.mark.parametrize("kind", ["words", "wordpiece"])
def test_chinese_characters_are_words_of_their_own_and_come_back_without_blanks(kind):
    made = train_tokenizer(["我喜欢这部电影，really good film"] * 2, kind, 400)
    (ids,) = made.encode(["这电影很good，film"])
    tokens = [made.token(index) for index in ids]
    assert tokens == ["这", "电", "影", "[UNK]", "good", "，", "film"]
    assert made.decode([*ids[:3], ids[5], ids[0], *ids[4:5], ids[6]]) == "这电影，这 good film"


@pytest.mark.parametrize("kind", ["words", "wordpiece"])
def test_without_chinese_characters_nothing_is_split_otherwise(kind):
    from tokenizers import pre_tokenizers

    texts = [*TEXTS, "Résumé_2 naïve: It's $5.00!! שָׁלוֹם हिन्दी 한국어 😀"]
    made = train_tokenizer(texts, kind, 400)
    plain = Tokenizer(made.to_bytes())
    plain.model.pre_tokenizer = pre_tokenizers.Whitespace() if kind == "words" else pre_tokenizers.BertPreTokenizer()
    assert [list(ids) for ids in made.encode(texts)] == [list(ids) for ids in plain.encode(texts)]


def test_what_is_no_tokenizer_is_refused_in_a_line():
    with pytest.raises(UserError, match="no text"):
        train_tokenizer(["", "  "])
    with pytest.raises(UserError, match="damaged"):
        Tokenizer(b"{}")


def test_a_language_without_blanks_is_not_unknown():
    words = ["สวัสดี", "ครับ", "อาหาร", "อร่อย", "ไม่", "ชอบ", "หนัง", "เรื่อง"]
    generator = np.random.default_rng(0)
    texts = ["".join(generator.choice(words, 60)) for _ in range(20)]
    tokenizer = train_tokenizer(texts, "wordpiece", 200)
    assert min(map(len, texts)) > 200 and tokenizer.unknown_share(texts) == 0
    assert tokenizer.decode(tokenizer.encode(texts[:1])[0]) == texts[0]
