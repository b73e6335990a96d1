"""What models are made of: layer classes, one family per file, with the same numbers on every backend.

`import layers` imports no backend: a class or a submodule is fetched the first time it is named.
"""

import importlib

_MODULE_OF = {
    "AveragePooling2D": "pooling",
    "BatchNormalization": "normalization",
    "ClassToken": "transformer",
    "Conv2D": "convolution",
    "Cutout": "augmentation",
    "Decoder": "decoding",
    "Dense": "dense",
    "DepthwiseConv2D": "convolution",
    "Dropout": "regularization",
    "Embedding": "embedding",
    "FeatureTokenizer": "tabular",
    "GRU": "recurrent",
    "GraphAttention": "graph",
    "GraphConvolution": "graph",
    "GraphIsomorphism": "graph",
    "GraphSAGE": "graph",
    "LSTM": "recurrent",
    "LayerNormalization": "normalization",
    "MaxPooling2D": "pooling",
    "Mixup": "augmentation",
    "MixupModel": "augmentation",
    "PatchEmbedding": "transformer",
    "Perceptron": "perceptron",
    "PerceptronLoss": "perceptron",
    "PixelNormal": "generative",
    "PixelShuffle": "generative",
    "PositionEmbedding": "transformer",
    "RandomColor": "augmentation",
    "RandomCrop": "augmentation",
    "RandomFlip": "augmentation",
    "RandomRotation": "augmentation",
    "RandomShift": "augmentation",
    "Reparametrization": "generative",
    "RotaryEmbedding": "transformer",
    "SelfAttention": "transformer",
    "TokenEmbedding": "transformer",
    "TransformerBlock": "transformer",
    "initialize": "initialization",
}
_SUBMODULES = {"backend", "models"} | set(_MODULE_OF.values())

__all__ = [*_MODULE_OF, "register"]


def register():
    """Import every family and architecture, so that Keras can load a saved model that holds any of their classes."""
    for module in sorted(set(_MODULE_OF.values())):
        importlib.import_module(f".{module}", __name__)
    importlib.import_module(".models", __name__).register()


def __getattr__(name):
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    if name in _SUBMODULES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module `layers` has no attribute `{name}`")


def __dir__():
    return sorted({*globals(), *__all__, *_SUBMODULES})
