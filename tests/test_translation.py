"""Translation and summarization: pairs of texts read, words copied, texts written, plain methods, and bad files in a line."""

import gzip
import json

import numpy as np
import pytest
from runs import forked

from apps import summarization, translation
from apps.common.data.text.encoded_pairs import PairCoder, about_pairs, coder_of
from apps.common.data.text.made_pairs import additions, made_up_language, short_stories
from apps.common.data.text.pairs import Pairs, read_pairs
from apps.common.data.text.tokenizer import train_tokenizer
from apps.common.errors import UserError
from apps.common.files import read_json
from apps.common.reports.dictionary import word_dictionary, word_for_word

pytestmark = pytest.mark.once  # agreement of the backends and the contract carry it to the others

GERMAN, ENGLISH = ["ein Hund", "zwei Katzen", "ein Haus"], ["a dog", "two cats", "a house"]


def write_lines(path, lines):
    text = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def test_the_same_pairs_come_from_every_format(tmp_path):
    (tmp_path / "parallel").mkdir()
    write_lines(tmp_path / "parallel" / "train.de.gz", GERMAN)
    write_lines(tmp_path / "parallel" / "train.en", ENGLISH)
    write_lines(tmp_path / "table.tsv", map("\t".join, zip(GERMAN, ENGLISH, strict=True)))
    write_lines(tmp_path / "headed.tsv", ["id\ttarget\tsource", *(f"0\t{e}\t{d}" for d, e in zip(GERMAN, ENGLISH, strict=True))])
    rows = [{"de": d, "en": e} for d, e in zip(GERMAN, ENGLISH, strict=True)]
    write_lines(tmp_path / "keys.jsonl", map(json.dumps, rows))
    write_lines(tmp_path / "nested.jsonl", (json.dumps({"translation": row}) for row in rows))
    expected = Pairs(GERMAN, [[each] for each in ENGLISH])
    for name in ("parallel", "parallel/train.de.gz", "table.tsv", "headed.tsv"):
        assert read_pairs(tmp_path / name)[0] == {"train": expected}, name
    turned = read_pairs(tmp_path / "parallel" / "train.en")[0]["train"]  # the file that is named is the source
    assert turned == Pairs(ENGLISH, [[each] for each in GERMAN])
    for name in ("parallel", "keys.jsonl", "nested.jsonl"):
        assert read_pairs(tmp_path / name, "de", "en")[0] == {"train": expected}, name


def test_named_splits_are_found_in_any_folder_below_and_the_languages_among_several(tmp_path):
    (tmp_path / "task" / "raw").mkdir(parents=True)
    for split in ("train", "val", "test_2016", "test_2017"):
        for language in ("de", "en", "fr"):
            write_lines(tmp_path / "task" / "raw" / f"{split}.{language}", [f"{split} {language}"])
    (tmp_path / "README.md").write_text("About.")
    splits, notes = read_pairs(tmp_path, "fr", "en")
    assert {name: pairs.sources for name, pairs in splits.items()} == {
        "train": ["train fr"], "validation": ["val fr"], "test": ["test_2016 fr"],
    }  # fmt: skip
    assert notes == ["left out test_2017"]
    with pytest.raises(UserError, match="de, en, fr"):
        read_pairs(tmp_path)
    with pytest.raises(UserError, match="--target-language xx"):
        read_pairs(tmp_path, "de", "xx")


def test_lines_with_more_cells_than_the_first_are_counted_and_named_and_many_refused(tmp_path):
    table = tmp_path / "pairs.tsv"
    write_lines(table, ["ein Hund\ta dog", "ein\tHaus\ta house", "zwei Katzen\ttwo cats\t", *["eins\tone"] * 27])
    splits, notes = read_pairs(table)
    assert splits["train"].sources == ["ein Hund", "zwei Katzen", *["eins"] * 27]
    said = "cannot be read (3.3%): line 2 (of 3 cells, the first line has 2)"
    assert notes == [f"left out 1 of 30 lines of {table} that {said}"]
    write_lines(table, ["ein Hund\ta dog", "ein\tHaus\ta house"])
    with pytest.raises(UserError, match=r"1 of 2 lines of .*pairs\.tsv cannot be read \(50\.0%\): line 2"):
        read_pairs(table)
    write_lines(table, ["id\ttarget\tsource", "0\ta dog\tein Hund", "", "1\ta house"])
    with pytest.raises(UserError, match=r"pairs\.tsv: line 4 has 2 cells, the first line 3: '1'"):
        read_pairs(table)


def test_keys_that_are_languages_are_the_two_sides(tmp_path):
    table, row = tmp_path / "pairs.jsonl", {"id": "7", "en": "A dog.", "de": "Ein Hund."}
    write_lines(table, [json.dumps({"translation": row})])
    assert read_pairs(table) == (
        {"train": Pairs(["Ein Hund."], [["A dog."]])}, ["from de to en; --source-language en turns it round"]
    )  # fmt: skip
    assert read_pairs(table, "en", None)[0] == {"train": Pairs(["A dog."], [["Ein Hund."]])}
    with pytest.raises(UserError, match=r"--source-language fr: .* it has de, en"):
        read_pairs(table, "fr", None)
    write_lines(table, [json.dumps({**row, "fr": "Un chien."})])
    with pytest.raises(UserError, match="has de, en, fr; say which by --source-language and --target-language"):
        read_pairs(table)


def test_columns_of_numbers_are_no_texts_and_those_that_are_used_are_named(tmp_path):
    table = tmp_path / "pairs.tsv"
    write_lines(table, ["1276\tA dog.\t77\tEin Hund.", "1277\tA man.\t78\tEin Mann."])
    splits, notes = read_pairs(table)
    assert splits["train"] == Pairs(["A dog.", "A man."], [["Ein Hund."], ["Ein Mann."]])
    assert notes == ["pairs.tsv has 4 columns: the source is column 2 ('A dog.'), the target column 4 ('Ein Hund.')"]
    write_lines(table, ["12+3\t15", "4+5\t9"])  # of two, each is one side
    assert read_pairs(table) == ({"train": Pairs(["12+3", "4+5"], [["15"], ["9"]])}, [])


def test_a_model_of_named_languages_is_judged_by_data_that_call_them_otherwise(tmp_path):
    made = translation.load_data(translation.Config(vocabulary=300))
    config = translation.Config(data=str(tmp_path / "pairs.tsv"), source_language="en", target_language="de")
    texts = "A dog.\tEin Hund.\nA man.\tEin Mann.\n"
    (tmp_path / "pairs.tsv").write_text(texts)
    judged = translation.load_data(config, made.about)
    assert judged.test.texts.sources == ["A dog.", "A man."] and "called en and de" in " ".join(judged.notes)
    with pytest.raises(UserError, match="no such column"):
        translation.load_data(config)
    (tmp_path / "pairs.tsv").write_text("de\ten\nEin Hund.\tA dog.\n")
    assert translation.load_data(config, made.about).test.texts.sources == ["A dog."]
    (tmp_path / "pairs.tsv").write_text("A dog.\n")
    with pytest.raises(UserError, match="has no tab"):
        translation.load_data(config, made.about)


def test_a_named_column_of_two_settles_the_other_and_one_that_is_not_there_is_refused(tmp_path):
    table = tmp_path / "pairs.tsv"
    write_lines(table, ["English\tGerman", "a dog\tein Hund"])
    for names in (("german", None), (None, "english"), ("german", "english")):
        assert read_pairs(table, *names)[0] == {"train": Pairs(["ein Hund"], [["a dog"]])}, names
    for names, said in ((("french", None), "--source-language french"), (("german", "german"), "both the column german")):
        with pytest.raises(UserError, match=said):
            read_pairs(table, *names)
    write_lines(table, ["a dog\tein Hund", "a house\tein Haus"])
    with pytest.raises(UserError, match=r"language de: .* no such column, its first line is a dog, ein hund"):
        read_pairs(table, "de", "en")
    write_lines(table, ["id\tenglish\tgerman", "1\ta dog\tein Hund"])
    with pytest.raises(UserError, match="say by --target-language"):
        read_pairs(table, "german")
    assert read_pairs(table, "german", "english")[0]["train"].sources == ["ein Hund"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"train.de": b"a\nb\n", "train.en": b"a\nb\nc\n"}, "has 2 lines, but train.en has 3"),
        ({"train.de": b"a\n\xff\n", "train.en": b"a\nb\n"}, "line 2 is not UTF-8"),
        ({"train.de": b"a\nb\0\n", "train.en": b"a\nb\n"}, "line 2 holds a NUL byte"),
        ({"train.de": b"", "train.en": b"a\n"}, "is empty"),
        ({"train.de": b"a\n"}, "no pairs of texts"),
        ({"pairs.tsv": b"a\tb\nc\n"}, "line 2 has no tab"),
        ({"pairs.jsonl": b'{"source": "a", "target": "b"}\n{"source"\n'}, "line 2 is not JSON"),
        ({"pairs.jsonl": b'{"left": "a", "right": "b"}\n'}, "no source called"),
        ({"pairs.jsonl": b'{"source": 1, "target": "b"}\n'}, "line 1: expected texts"),
    ],
)
def test_bad_pairs_are_one_line(tmp_path, files, said):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        read_pairs(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_line_separator_inside_a_line_does_not_tear_it_and_empty_sides_are_counted(tmp_path):
    write_lines(tmp_path / "train.de", ["a\u2028b", "c", " "])
    write_lines(tmp_path / "train.en", ["d", "e", "f"])
    splits, notes = read_pairs(tmp_path)
    assert splits["train"].sources == ["a\u2028b", "c"] and any("skipped 1 of 3" in note for note in notes)


def copying_coder():
    tokenizer = train_tokenizer(["the dog saw a cat ."] * 3, "words")
    return PairCoder(tokenizer, tokenizer, num_copied=2)


def test_words_the_vocabulary_lacks_are_numbered_above_it_and_spelt_again():
    coder = copying_coder()
    size = len(coder.target)
    text = "the Zebra saw Bob . Zebra saw Eve"
    (ids,), copied = coder.encode_sources([text])
    assert copied == [["Zebra", "Bob"]]
    assert [int(each) - size for each in ids if each >= size] == [0, 1, 0] and (ids == 1).sum() == 1  # Eve is one too many
    (target,) = coder.encode_targets(["Bob saw the Zebra, Ann ."], copied)
    assert coder.decode([coder.target.begin, *target, coder.target.end], copied[0]) == "Bob saw the Zebra [UNK] [UNK]."


def test_a_copied_word_keeps_an_accent_that_is_a_character_of_its_own():
    coder = copying_coder()
    (ids,), (copied,) = coder.encode_sources(["the cafe\u0301 ."])
    assert copied == ["caf\u00e9"] and coder.decode(ids, copied) == "the caf\u00e9."


def test_a_coder_comes_back_from_its_files():
    coder = copying_coder()
    pairs = Pairs(["the dog", "a cat saw the dog"], [["dog"], ["cat"]])
    train = coder.sequences(pairs, longest=(4, 4))
    loaded = coder_of(about_pairs(coder, train, (4, 4)))
    assert loaded.source is loaded.target and loaded.num_copied == 2
    assert [list(each) for each in loaded.encode_sources(pairs.sources)[0]] == [list(each) for each in train.x["source"]]


def test_the_target_is_the_target_moved_on_by_one_and_its_padding_weighs_nothing():
    coder = copying_coder()
    made = coder.sequences(Pairs(["the dog", "a cat saw the dog"], [["dog"], ["cat saw"]]), longest=(5, 9))
    x, y, weight = made.take(np.array([0, 1]))
    inside = weight[:, 1:] > 0
    assert (x["target"][:, 0] == coder.target.begin).all() and (x["target"][:, 1:][inside] == y[:, :-1][inside]).all()
    assert weight.sum(1).tolist() == [2, 3] and y[0, 1] == y[1, 2] == coder.target.end
    assert made.subset([1]).texts.sources == ["a cat saw the dog"]


def test_made_pairs_follow_their_rules():
    assert all(str(eval_sum(text)) == target for text, target in zip(*columns(additions(50)), strict=True))
    language = made_up_language(50)
    assert language == made_up_language(50) and language != made_up_language(50, seed=1)
    assert len(set(language.sources)) == 50 and all(each.endswith(("as", "ir")) for each in language.targets)
    stories = short_stories(20)
    for source, target in zip(*columns(stories), strict=True):
        assert all(word in source for word in target.rstrip(".").split() if word[0].isupper())


def columns(pairs):
    return pairs.sources, pairs.targets


def eval_sum(text):
    return sum(map(int, text.split("+")))


def test_a_dictionary_finds_the_words_that_come_together():
    words = {"rot": "red", "hund": "dog", "katze": "cat", "haus": "house"}
    generator = np.random.default_rng(0)
    sources = [[list(words)[i] for i in generator.permutation(4)[:3]] for _ in range(40)]
    targets = [" ".join(words[each] for each in reversed(source)) for source in sources]
    found = word_dictionary([" ".join(each) for each in sources], targets)
    assert found == words and word_for_word("rot katze auto", found) == "red cat auto"


def test_bleu_and_rouge_are_the_published_tools():
    config = translation.Config()
    metrics, signatures = translation.scores(["the cat sat on a mat", "no"], [["the cat sat on the mat"], ["no"]], config)
    assert metrics["exact_match"] == 0.5 and 0 < metrics["bleu"] < 100
    assert [each["metric"] for each in signatures] == ["bleu", "chrf"] and "tok:13a" in signatures[0]["signature"]
    assert translation.scores(["a b c d"], [["a b c d"]], config)[0]["bleu"] == pytest.approx(100)
    short = translation.Config(bleu_tokenize="char")
    assert translation.scores(["59"], [["59"]], short)[0]["bleu"] == pytest.approx(100)
    found = summarization.rouge(["the cats sat"], [["dogs bark", "the cat sat down"]])
    assert found["rouge1"][0] == pytest.approx(6 / 7) and found["rouge2"][0] == pytest.approx(0.8)


def test_the_signature_of_sacrebleu_is_printed_with_the_result_and_stands_in_the_card(tmp_path):
    write_lines(tmp_path / "pairs.tsv", [f"rot hund {n}\tred dog {n}" for n in range(20)])
    small = ("--data", "pairs.tsv", "--width", "8", "--epochs", "1", "--tokens", "words", "--beam-width", "1")
    done = forked("train", "translation", *small, cwd=tmp_path)
    (card,) = (tmp_path / "mlruns").glob("runs/*/bundle/README.md")
    (run,) = (tmp_path / "mlruns" / "runs").glob("*")
    again = forked("evaluate", run / "bundle", cwd=tmp_path)
    for name in ("bleu", "chrf"):
        line = next(each["signature"] for each in read_json(run / "signatures.json") if each["metric"] == name)
        assert "version:" in line
        for said in (done.stdout + done.stderr, card.read_text(), again.stdout + again.stderr):
            assert f"{name} by sacrebleu: {line}" in said


def test_rouge_counts_words_of_any_script_and_says_so(tmp_path):
    found = summarization.rouge(["Кошка спала, 2"], [["кошка долго спала 2"]])
    assert found["rouge1"][0] == pytest.approx(6 / 7)
    assert summarization.rouge(["猫在睡觉。"], [["猫睡觉"]])["rouge1"][0] == pytest.approx(6 / 7)
    # Some accents and foreign names leave the words of rouge-score as they are: there é ends a word.
    assert summarization.rouge(["déjà 猫"], [["une idée déjà vue"]])["rouge1"][0] == pytest.approx(2 * 2 / (2 + 6))
    write_lines(tmp_path / "a.jsonl", [json.dumps({"text": f"кошка {n} спала. да", "summary": "кошка"}) for n in range(40)])
    config = summarization.Config(data=str(tmp_path / "a.jsonl"))
    data = summarization.load_data(config)
    for notes in (data.notes, summarization.load_data(config, data.about).notes):
        assert any("ROUGE counts words of any script" in note for note in notes)
    assert not any("ROUGE" in note for note in summarization.load_data(summarization.Config()).notes)


def test_the_lead_is_the_first_sentence_and_the_tf_idf_sentence_the_one_that_says_most():
    text = "It rained. The harbour of Oslo was closed by the harbour master. Closed it was."
    assert summarization.lead(text) == "It rained."
    assert summarization.sentences("下雨了。港口关了！ 好") == ["下雨了。", "港口关了！", "好"]
    pairs = Pairs([text] * 2, [["The harbour of Oslo was closed by the harbour master."]] * 2)
    coder = copying_coder()
    part = coder.sequences(pairs, longest=(9, 9))
    from apps.common.data.examples import Data

    found = summarization.baselines(Data(part, part, part, {}), None)
    assert found["TF-IDF sentence"]["rouge1"] == pytest.approx(1) and found["lead sentence"]["rouge1"] == 0


@pytest.mark.parametrize("kind", ["gru", "transformer", "pointer"])
def test_writing_in_batches_is_writing_one_by_one_without_what_was_kept(kind):
    import keras

    from apps.common.reports.writing import write
    from layers import models

    keras.utils.set_random_seed(0)
    tokenizer = train_tokenizer(["a b c d e f g h"] * 2, "words")
    coder = PairCoder(tokenizer, tokenizer, 2 if kind == "pointer" else 0)
    size = len(tokenizer)
    if kind == "transformer":
        model = models.transformer(size, size, width=8, depth=1, num_heads=2)
    elif kind == "gru":
        model = models.seq2seq(size, size, width=8)
    else:
        model = models.pointer_generator(size, num_copied=2, width=8, units=8)
    generator = np.random.default_rng(0)
    for weight in model.weights:  # loud, so that every token matters
        if "seed" not in weight.path:
            weight.assign(generator.normal(size=weight.shape) * 0.7)
    sources = [generator.integers(4, size, length).astype("int32") for length in (2, 5, 3)]
    about = {"source_lengths": [3, 5], "target_length": 6}
    written, ended = write(model, sources, coder, about)
    for source, ids, whole in zip(sources, written, ended, strict=True):
        target = [tokenizer.begin]
        while len(target) <= 6:
            x = {"source": source[None], "target": np.array([target], "int32")}
            following = int(np.asarray(keras.ops.convert_to_numpy(model(x)))[0, -1].argmax())
            if following == tokenizer.end:
                break
            target.append(following)
        assert ids == target[1:] and whole == (len(target) <= 6)


@pytest.mark.parametrize("form", ["pre", "post"])
def test_a_block_gathers_from_the_memory_by_its_attention_weights(form):
    import keras

    import layers

    generator = np.random.default_rng(0)
    x, memory = (generator.normal(size=(2, length, 8)).astype("float32") for length in (3, 4))
    mask = np.array([[True] * 4, [True, True, False, False]])
    block = layers.DecoderBlock(2, 16, form=form)
    block(x, memory)
    # Both heads have the same values, and their mean is what comes out.
    look = block.memory_attention
    kernel, bias = (generator.normal(size=shape) for shape in ((8, 16), (16,)))
    kernel[:, 12:], bias[12:] = kernel[:, 8:12], bias[8:12]
    look.key_value.set_weights([kernel, bias])
    look.output_projection.set_weights([np.vstack([np.eye(4, 8), np.eye(4, 8)]) / 2, np.zeros(8)])
    x, memory, mask = map(keras.ops.convert_to_tensor, (x, memory, mask))
    own = block.residual(x, block.attention.call, block.attention_norm, False)
    gathered = keras.ops.convert_to_numpy(look(block.memory_norm(own) if form == "pre" else own, memory, mask=mask))
    weights = keras.ops.convert_to_numpy(block.attention_weights(x, memory, mask))
    assert (weights[1, :, 2:] == 0).all() and weights[0].std() > 0.1
    values = keras.ops.convert_to_numpy(memory) @ kernel[:, 8:12] + bias[8:12]
    np.testing.assert_allclose(gathered[..., :4], weights @ values, rtol=1e-4, atol=1e-5)


def test_a_transformer_looks_at_the_whole_source_for_each_token_and_it_is_drawn(tmp_path):
    import keras

    from apps.common.reports.writing import attention_maps, looking
    from layers import models

    tokenizer = train_tokenizer(["a b c d"] * 2, "words")
    coder, size = PairCoder(tokenizer, tokenizer), len(tokenizer)
    model = models.transformer(size, size, width=8, depth=2, num_heads=2)
    x = {"source": np.array([[4, 5, 6, 7], [5, 7, 0, 0]], "int32"), "target": np.array([[2, 4, 5], [2, 6, 7]], "int32")}
    weights = keras.ops.convert_to_numpy(looking(model)(x))
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    assert weights.shape == (2, 3, 4) and (weights[1, :, 2:] == 0).all()
    figure = attention_maps(model, coder, ["a b c", "d"], {"source_lengths": [3], "target_length": 5})
    assert [len(axis.get_xticklabels()) for axis in figure.axes] == [3, 1]


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("likeliest", ["end", "a"])
def test_what_was_stopped_or_not_read_to_its_end_is_noted(likeliest, width):
    from apps.common.reports.writing import write_texts
    from layers import models

    tokenizer = train_tokenizer(["a b c d"] * 2, "words")
    coder = PairCoder(tokenizer, tokenizer)
    model = models.seq2seq(len(tokenizer), len(tokenizer), width=4)
    wanted = tokenizer.end if likeliest == "end" else tokenizer.encode(["a"])[0][0]
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([0 * kernel, 9 * np.eye(len(bias))[wanted]])
    about = {"source_lengths": [3], "target_length": 5}
    texts, notes = write_texts(model, ["a b", "a b c d"], coder, about, width=width)
    stopped = "stopped after 5 tokens, before an end"
    if likeliest == "end":
        assert (texts, notes) == (["", ""], ["", "read up to token 3 of 4"])
    else:
        assert (texts, notes) == (["a a a a a"] * 2, [stopped, f"read up to token 3 of 4; {stopped}"])


def test_options_that_make_no_transformer_are_refused():
    with pytest.raises(UserError, match="--num-heads 3"):
        translation.Config(model="transformer", num_heads=3).check()


@pytest.mark.once
def test_what_gzip_has_packed_is_refused_by_its_size_unpacked(tmp_path, monkeypatch):
    (tmp_path / "train.tsv").write_bytes(gzip.compress(b"eins\tone\n" * 200_000))
    assert len(read_pairs(tmp_path / "train.tsv")[0]["train"].sources) == 200_000
    monkeypatch.setattr("apps.common.data.reading.available_memory", lambda: 10_000_000)
    with pytest.raises(UserError, match=r"train\.tsv: needs 18\.0 MB of memory"):
        read_pairs(tmp_path / "train.tsv")
