"""Tokenizers of Hugging Face made the house's own: the special tokens called and numbered as ours, the rest in its order."""

import json
import os

from apps.common.data.text.tokenizer import PADDING, SPECIALS, UNKNOWN
from apps.common.errors import UserError

NAMES = (PADDING, UNKNOWN, *SPECIALS.values())  # ids 0, 1, 2, 3, 4
BETWEEN_DOCUMENTS = "<|endoftext|>"  # of GPT-2
MODELS = ("WordPiece", "BPE", "WordLevel")
ADDED = "added_tokens.json"  # of a folder without tokenizer.json: tokens that the vocabulary's file lacks, each with its id
PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}  # found in a text as it stands there


def adopt_tokenizer(content, theirs, where):
    """`(content, order)`: the `tokenizer.json` of ours, and for each of its ids the id that the token had before.

    Args:
        content: The bytes of theirs.
        theirs: How it calls padding, the unknown, begin, end and mask; none for a tokenizer that is taken as it is.
        where: What a message begins with.
    Raises:
        UserError: It is no tokenizer of pieces of words, or lacks one of these tokens.
    """
    try:
        made = json.loads(content)
        model, added = made["model"], made.get("added_tokens") or []
        kind = model.get("type") or "WordPiece"
        ids = dict(model["vocab"]) if isinstance(model["vocab"], dict) else None
        if ids is not None:
            ids |= {each["content"]: each["id"] for each in added}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where}: is no tokenizer ({type(error).__name__}: {error}); restore the file") from None
    if ids is None or kind not in MODELS:
        raise UserError(f"{where}: a tokenizer of kind {kind}; expected {', '.join(MODELS[:-1])} or {MODELS[-1]}")
    missing = [token for token in theirs if token not in ids]
    if missing or len(set(ids.values())) < len(ids):
        why = f"has no token {missing[0]!r}" if missing else "gives two tokens one id"
        raise UserError(f"{where}: {why}; it is not the tokenizer of this network")
    ours = dict(zip(theirs, NAMES[: len(theirs)], strict=True))
    taken = [token for token in ours.values() if token in ids and token not in ours]
    if taken:
        raise UserError(f"{where}: has a token {taken[0]!r} that is none of its special ones; rename it")
    tokens = [*ours, *sorted((token for token in ids if token not in ours), key=ids.get)]
    place = {token: index for index, token in enumerate(tokens)}
    # Entries that only stand among the added tokens would be numbered anew when the file is read.
    model["vocab"] = {ours.get(token, token): index for token, index in place.items()}
    if model.get("unk_token") is not None:
        model["unk_token"] = ours.get(model["unk_token"], model["unk_token"])
    for each in added:
        token = each["content"]
        each["id"], each["content"] = place[token], ours.get(token, token)
    made["added_tokens"] = sorted(added, key=lambda each: each["id"])
    known = {each["content"] for each in added}
    made["added_tokens"] += [
        {"id": index, "content": token, **PLAIN, "special": True}
        for index, token in enumerate(ours.values())
        if token not in known
    ]
    # The ends are put around a text by us, and texts are cut and padded in batches.
    made |= {"post_processor": None, "truncation": None, "padding": None}
    return json.dumps(made, ensure_ascii=False).encode(), [ids[token] for token in tokens]


def tokenizer_from_words(content, lowercase):
    """A `tokenizer.json` of BERT's vocab.txt, a token a line."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokens = content.decode("utf-8").split("\n")
    tokens = [token.rstrip("\r") for token in (tokens[:-1] if tokens[-1] == "" else tokens)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    made.pre_tokenizer, made.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    return made.to_str().encode()


def tokenizer_from_merges(vocabulary, merges):
    """A `tokenizer.json` of GPT-2's vocab.json and merges.txt."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pairs = [tuple(line.split(" ")) for line in merges.decode("utf-8").splitlines() if line and not line.startswith("#version")]
    made = Tokenizer(models.BPE(json.loads(vocabulary), pairs))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    if made.token_to_id(BETWEEN_DOCUMENTS) is not None:  # its merges would never make it
        made.add_special_tokens([BETWEEN_DOCUMENTS])
    return made.to_str().encode()


def with_added(content, added):
    """A `tokenizer.json` with further tokens `{token: id}`, which are found in a text before it is taken to pieces."""
    made = json.loads(content)
    known = {each["content"] for each in made["added_tokens"]}
    more = [{"id": index, "content": token, **PLAIN, "special": False} for token, index in added.items() if token not in known]
    return json.dumps({**made, "added_tokens": [*made["added_tokens"], *more]}, ensure_ascii=False).encode()


def read_tokenizer(folder, theirs, *, lowercase=True):
    """`adopt_tokenizer` of the files of a folder: `tokenizer.json`, or vocab.txt, or vocab.json with merges.txt.

    The last two may have an added_tokens.json beside them.

    Args:
        folder: A `Path`.
        theirs: As of `adopt_tokenizer`.
        lowercase: Of a vocab.txt, which does not say it.
    Raises:
        UserError: There is none, or it cannot be read.
    """
    ways = {
        ("tokenizer.json",): lambda content: content,
        ("vocab.txt",): lambda content: tokenizer_from_words(content, lowercase),
        ("vocab.json", "merges.txt"): tokenizer_from_merges,
    }
    for names, made in ways.items():
        if all((folder / name).is_file() for name in names):
            where = os.fspath(folder / names[0])
            try:
                content = made(*((folder / name).read_bytes() for name in names))
                if names != ("tokenizer.json",) and (folder / ADDED).is_file():
                    content = with_added(content, json.loads((folder / ADDED).read_bytes()))
            except Exception as error:  # of no class of its own
                raise UserError(f"{where}: is no tokenizer ({str(error)[:160]}); restore the file") from None
            return adopt_tokenizer(content, theirs, where)
    expected = "expected tokenizer.json, or vocab.txt, or vocab.json and merges.txt"
    raise UserError(f"{folder}: has no tokenizer; {expected}")
