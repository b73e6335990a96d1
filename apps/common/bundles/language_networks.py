"""`--pretrained` of the language tasks: a network that reads, with its vocabulary, from a bundle or a Hugging Face folder.

What a run takes along is an `About`: under `architecture` the builder and its arguments, as files the tokenizer. The run's own
bundle has the same two, so a run can begin with it in turn, and needs its source no more.
"""

import re
from dataclasses import dataclass, field

import numpy as np

from apps.common.bundles.bundle import open_bundle
from apps.common.bundles.hugging_face import HuggingFace
from apps.common.data.examples import About
from apps.common.data.text.adopted import read_tokenizer
from apps.common.data.text.tokenizer import TOKENIZER_FILE
from apps.common.errors import UserError
from apps.common.options.training import library_of

ENCODERS, DECODERS = ("bert",), ("gpt", "gpt2", "lstm_language_model")

# Where our layers (left) find their weights (right); {} is the number of a block. Parts joined by + lie in one matrix of ours.
BERT = {
    "embedding": "embeddings.word_embeddings",
    "positions": "embeddings.position_embeddings",
    "segment_embedding": "embeddings.token_type_embeddings",
    "embedding_norm": "embeddings.LayerNorm",
    "block_{}/attention/query_key_value":
        "encoder.layer.{}.attention.self.query + encoder.layer.{}.attention.self.key + encoder.layer.{}.attention.self.value",
    "block_{}/attention/output": "encoder.layer.{}.attention.output.dense",
    "block_{}/attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "block_{}/feed_forward/hidden": "encoder.layer.{}.intermediate.dense",
    "block_{}/feed_forward/output": "encoder.layer.{}.output.dense",
    "block_{}/hidden_norm": "encoder.layer.{}.output.LayerNorm",
    "pooler": "pooler.dense",
    "head": "cls.predictions.transform.dense",
    "head_norm": "cls.predictions.transform.LayerNorm",
    "bias": "cls.predictions",
}  # fmt: skip
ROBERTA = {
    **{ours: theirs for ours, theirs in BERT.items() if ours != "segment_embedding"},
    "head": "lm_head.dense",
    "head_norm": "lm_head.layer_norm",
    "bias": "lm_head",
}
DISTILBERT = {
    "embedding": "embeddings.word_embeddings",
    "positions": "embeddings.position_embeddings",
    "embedding_norm": "embeddings.LayerNorm",
    "block_{}/attention/query_key_value":
        "transformer.layer.{}.attention.q_lin + transformer.layer.{}.attention.k_lin + transformer.layer.{}.attention.v_lin",
    "block_{}/attention/output": "transformer.layer.{}.attention.out_lin",
    "block_{}/attention_norm": "transformer.layer.{}.sa_layer_norm",
    "block_{}/feed_forward/hidden": "transformer.layer.{}.ffn.lin1",
    "block_{}/feed_forward/output": "transformer.layer.{}.ffn.lin2",
    "block_{}/hidden_norm": "transformer.layer.{}.output_layer_norm",
    "head": "vocab_transform",
    "head_norm": "vocab_layer_norm",
    "bias": "vocab_projector",
}  # fmt: skip
GPT2 = {
    "embedding": "wte",
    "positions": "wpe",
    "block_{}/attention_norm": "h.{}.ln_1",
    "block_{}/attention/query_key_value": "h.{}.attn.c_attn",
    "block_{}/attention/output": "h.{}.attn.c_proj",
    "block_{}/hidden_norm": "h.{}.ln_2",
    "block_{}/hidden": "h.{}.mlp.c_fc",
    "block_{}/output": "h.{}.mlp.c_proj",
    "norm": "ln_f",
}
MAY_LACK = ("pooler", "head", "head_norm", "bias")  # of an encoder: what another task puts in their place

SIZES = {
    "vocabulary": "vocab_size", "max_tokens": "max_position_embeddings", "width": "hidden_size", "depth": "num_hidden_layers",
    "num_heads": "num_attention_heads", "hidden_dim": "intermediate_size", "activation": "hidden_act",
}  # fmt: skip
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
BERTS_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Family:
    """One architecture of Hugging Face's.

    Args:
        network: Our builder.
        layers: Where our layers find their weights.
        prefix: What may stand before the names of its trunk.
        sizes: How its configuration calls what the builder needs.
        epsilon: That of its norms: an entry of the configuration, or the number itself.
        tokens: How its tokenizer calls padding, the unknown, begin, end and mask; none of a tokenizer taken as it is.
        segments: Whether its tokens know which of two texts they belong to.
        offset: Positions of its table that no text has: RoBERTa's begin behind that of padding.
        transposed: Whether its matrices are `(outputs, inputs)`, as those of torch are.
        demands: `{entry of the configuration: the values we read}`, the first where it is missing.
    """

    network: str
    layers: dict
    prefix: str
    sizes: dict = field(default_factory=lambda: SIZES)
    epsilon: str | float = "layer_norm_eps"
    tokens: tuple = BERTS_TOKENS
    segments: bool = False
    offset: int = 0
    transposed: bool = True
    demands: dict = field(default_factory=dict)


ENCODER = {
    "position_embedding_type": ("absolute", None), "is_decoder": (False, None), "add_cross_attention": (False, None),
    "tie_word_embeddings": (True,), "chunk_size_feed_forward": (0, None),
}  # fmt: skip
FAMILIES = {
    "bert": Family("bert", BERT, "bert.", segments=True, demands={**ENCODER, "type_vocab_size": (2,)}),
    "roberta": Family(
        "bert", ROBERTA, "roberta.", tokens=("<pad>", "<unk>", "<s>", "</s>", "<mask>"), offset=2,
        demands={**ENCODER, "pad_token_id": (1,), "hidden_act": ("gelu",)},
    ),
    "distilbert": Family(
        "bert", DISTILBERT, "distilbert.", epsilon=1e-12, demands={"tie_word_embeddings": (True,)},
        sizes={**SIZES, "width": "dim", "depth": "n_layers", "num_heads": "n_heads", "hidden_dim": "hidden_dim",
               "activation": "activation"},
    ),
    "gpt2": Family(
        "gpt2", GPT2, "transformer.", epsilon="layer_norm_epsilon", tokens=(), transposed=False,
        sizes={**SIZES, "max_tokens": "n_positions", "width": "n_embd", "depth": "n_layer", "num_heads": "n_head",
               "hidden_dim": "n_inner", "activation": "activation_function"},
        demands={"scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,), "add_cross_attention": (False, None),
                 "tie_word_embeddings": (True,)},
    ),
}  # fmt: skip


def read_network(source, networks):
    """What a source of weights brings along: an `About` with `architecture`, and with the file of its tokenizer if it has one.

    The architecture is `{"network": name of a builder, "sizes": its arguments, "max_tokens": most tokens it can see}`.

    Args:
        source: A bundle folder, a run id, `name@alias` or `hf:FOLDER`.
        networks: `ENCODERS` or `DECODERS`, the builders that the task can begin with.
    Raises:
        UserError: It is none of these, or cannot be read.
    """
    if library_of(source):
        about, _ = read_folder(HuggingFace(source), networks)
        return about
    bundle = open_bundle(source)
    architecture = bundle.about.get("architecture")
    if not isinstance(architecture, dict) or architecture.get("network") not in networks:
        expected = "masked-language, or one of --model bert" if networks == ENCODERS else "text-generation"
        raise UserError(f"--pretrained {source}: a bundle of {bundle.task} that this task cannot begin with; expected {expected}")
    if networks == ENCODERS and TOKENIZER_FILE not in bundle.about.files:
        raise UserError(f"--pretrained {source}: has no {TOKENIZER_FILE}; restore the bundle or train it again")
    return bundle.about


def read_folder(folder, networks):
    """The `About` of a Hugging Face folder, and for each id of its tokenizer the row of the folder's tables."""
    kind = folder.architecture([name for name, family in FAMILIES.items() if family.network in networks])
    family = FAMILIES[kind]
    for name, values in family.demands.items():
        folder.demand(name, *values)
    sizes = {ours: folder.value(family.sizes[ours]) for ours in ("vocabulary", "max_tokens", "width", "depth", "num_heads")}
    if sizes["width"] % sizes["num_heads"]:
        raise UserError(f"{folder.name}: config.json: {sizes['num_heads']} heads do not divide a width of {sizes['width']}")
    lowercase = folder.json("tokenizer_config.json", {}).get("do_lower_case", True)
    tokenizer, order = read_tokenizer(folder.path, family.tokens, lowercase=lowercase)
    if max(order) >= sizes["vocabulary"]:
        raise UserError(
            f"{folder.name}: the tokenizer has an id {max(order)}, the network {sizes['vocabulary']} tokens; they do not belong "
            "together"
        )
    variant = {
        "epsilon": folder.value(family.epsilon, float) if isinstance(family.epsilon, str) else family.epsilon,
        "hidden_dim": folder.value(family.sizes["hidden_dim"], default=4 * sizes["width"]),
        "activation": ACTIVATIONS[folder.demand(family.sizes["activation"], *ACTIVATIONS)],
    }
    most = sizes["max_tokens"] - family.offset
    built = {"vocabulary_size": len(order), **{name: sizes[name] for name in ("width", "depth", "num_heads")}}
    if family.network == "bert":
        built["max_tokens"] = most
        variant["segments"] = family.segments
    architecture = {"network": family.network, "sizes": {**built, "variant": variant}, "max_tokens": most}
    folder.files  # noqa: B018  a pickle is refused before anything else is done
    return About({"architecture": architecture, "characters": ""}, {TOKENIZER_FILE: tokenizer}), np.array(order)


def network_of(about, *, dropout=0.0, **more):
    """The model of the architecture in an `About`, its weights not yet those of any source."""
    from layers import models

    architecture = about["architecture"]
    return getattr(models, architecture["network"])(**architecture["sizes"], dropout=dropout, **more)


def take_network(model, source, networks):
    """Put the weights of a Hugging Face folder into a model of its architecture, whatever its head: the layers they went to.

    `None` where there is no source, or a bundle, whose weights `compile_model` brings.

    Raises:
        UserError: A tensor is missing, or its shape is not as the configuration says.
    """
    from apps.common.bundles.pretrained import take_weights

    if not library_of(source):
        return None
    folder = HuggingFace(source)
    _, order = read_folder(folder, networks)
    family = FAMILIES[folder.config["model_type"]]
    tensors = {name.removeprefix(family.prefix): array for name, array in folder.tensors().items()}
    return take_weights(model, lambda layer, variable: weight(folder, family, tensors, order, variable), source, folder.digest())


def weight(folder, family, tensors, order, variable):
    """The array that a variable of ours is given, or `None` if there is none in the folder and need not be.

    Raises:
        UserError: It is missing, or of another shape.
    """
    layer, _, kind = variable.path.rpartition("/")
    number = next(iter(re.findall(r"block_(\d+)", layer)), "")
    ours = re.sub(r"block_\d+", "block_{}", layer)
    if ours not in family.layers:
        return None
    ending = "bias" if kind in ("bias", "beta") else "weight"
    names = [f"{part.replace('{}', number)}.{ending}" for part in family.layers[ours].split(" + ")]
    missing = [name for name in names if name not in tensors]
    if missing and ours in MAY_LACK:
        return None
    if missing:
        raise UserError(f"{folder.name}: has no tensor {missing[0]}, which config.json asks for; they do not belong together")
    array = np.concatenate([tensors[name] for name in names])
    if kind == "kernel" and family.transposed:
        array = array.T
    if ours in ("embedding", "bias") and len(array) > order.max():
        array = array[order]
    if ours == "positions":
        array = array[family.offset :]
        if family.network == "gpt2":
            array = array[: variable.shape[0]]  # of a model that sees fewer
        if not family.segments and "embeddings.token_type_embeddings.weight" in tensors:
            array = array + tensors["embeddings.token_type_embeddings.weight"][0]  # RoBERTa's one segment, that of every token
    if array.shape != tuple(variable.shape):
        raise UserError(
            f"{folder.name}: {names[0]} makes {array.shape}, config.json asks for {tuple(variable.shape)}; they do not belong "
            "together"
        )
    return array
