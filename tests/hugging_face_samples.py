"""Small random networks of `transformers` in folders, with what they compute: `python hugging_face_samples.py FOLDER`.

A process of its own, so that no other backend shares one with the torch that computes here.
"""

import json
import sys
from pathlib import Path

import numpy as np

WORDS = ("the", "film", "was", "good", "bad", "and", "##ly", "##s", "true", "a", ".", ",", "not")
TEXTS = ("The film was truely good.", "a bad film, and not good")
LETTERS = "abcdefghijklmnopqrstuvwxyz.,ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MERGES = ("f i", "fi l", "fil m", "Ġ film", "Ġ b", "t h", "Ġ th", "Ġth e", "g o", "go o", "goo d", "Ġ a")
SHAPE = {"max_position_embeddings": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 24}  # fmt: skip


def words(first=("[PAD]", "[unused]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")):
    letters = [mark + letter for letter in "abcdefghijklmnopqrstuvwxyz" for mark in ("", "##")]
    return [*first, *WORDS, *(letter for letter in letters if letter not in WORDS)]


def write_words(folder):
    (folder / "vocab.txt").write_text("\n".join(words()) + "\n")


def write_merges(folder, first=(), last=()):
    """GPT-2's two files, as RoBERTa has them as well."""
    made = [pair.replace(" ", "") for pair in MERGES]
    tokens = list(dict.fromkeys([*first, *LETTERS, "Ġ", *made, *last]))
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]) + "\n")
    return len(tokens)


def scrambled(model):
    """The model with weights of every kind away from zero and from one another."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            norm = "norm" in name.lower() or "ln_" in name
            weight.copy_(0.25 * torch.randn(weight.shape, generator=generator) + (norm and name.endswith("weight")))
    return model.eval()


def write(root):
    import torch
    import transformers as hf

    hf.logging.set_verbosity_error()
    torch.set_num_threads(1)
    folders = {name: root / name for name in ("bert", "distilbert", "roberta", "gpt2")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    write_words(folders["bert"])
    write_words(folders["distilbert"])
    # Padding is not the first entry of RoBERTa's vocabulary, and its mask is the last.
    roberta = write_merges(folders["roberta"], ("<s>", "<pad>", "</s>", "<unk>"), ("<mask>",))
    gpt2 = write_merges(folders["gpt2"], last=("<|endoftext|>",))
    small = {"dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24, "max_position_embeddings": 40}
    models = {
        "bert": hf.BertForMaskedLM(hf.BertConfig(vocab_size=len(words()) + 3, **SHAPE, hidden_act="gelu_new")),
        "distilbert": hf.DistilBertForMaskedLM(hf.DistilBertConfig(vocab_size=len(words()), **small)),
        "roberta": hf.RobertaForMaskedLM(
            hf.RobertaConfig(
                vocab_size=roberta, **{**SHAPE, "max_position_embeddings": 42}, type_vocab_size=1, layer_norm_eps=1e-5
            )
        ),
        "gpt2": hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=gpt2, n_positions=40, n_embd=16, n_layer=2, n_head=4)),
    }
    readers = {"bert": hf.BertTokenizer, "distilbert": hf.DistilBertTokenizer, "roberta": hf.RobertaTokenizer,
               "gpt2": hf.GPT2Tokenizer}  # fmt: skip
    for name, folder in folders.items():
        model, reader = scrambled(models[name]), readers[name].from_pretrained(folder)
        model.save_pretrained(folder)
        if name == "distilbert":  # of which the other way to write a tokenizer is read
            reader.save_pretrained(folder)
        ids = np.random.default_rng(0).integers(4 if name == "roberta" else 0, reader.vocab_size, (2, 9))
        there = np.arange(9) < np.array([[9], [6]]) if name != "gpt2" else np.ones((2, 9), bool)
        ids = np.where(there, ids, reader.pad_token_id or 0)
        given = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(there * 1)}
        if name == "bert":
            given["token_type_ids"] = torch.tensor((np.arange(9) > 4) * there * 1)
        with torch.no_grad():
            found = model(**given, output_hidden_states=True)
        arrays = {key: value.numpy() for key, value in given.items()}
        tokens = {f"text_{number}": reader(text, add_special_tokens=False)["input_ids"] for number, text in enumerate(TEXTS)}
        np.savez(folder / "expected.npz", **arrays, **tokens, logits=found.logits, hidden=found.hidden_states[-1])


if __name__ == "__main__":
    write(Path(sys.argv[1]))
