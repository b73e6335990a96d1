"""How a frozen language model is shown pictures: a resampler of their features, and gated attention that begins as nothing."""

import keras

from ._arguments import positive
from .attention import CrossAttention, joined, separated
from .dense import Dense
from .normalization import LayerNormalization

__all__ = ["GatedCrossAttention", "LastPicture", "PerceiverResampler"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
class GatedCrossAttention(keras.layers.Layer):
    """Shows pictures to a frozen model: `y = x + tanh(a) Attention(Norm(x), context)`, then `y + tanh(b) MLP(Norm(y))`.

    The gates a and b are zero at the start, so that the layer is the identity and the model what it was without it.

    Args:
        num_heads: Number of heads; it must divide the width of `x`.
        hidden_dim: Width of the perceptron's hidden layer.
    Input shape: `x` of `(batch, tokens, width)` and `context` of `(batch, context_tokens, any_width)`. `context_mask`, if
        given, is true where a context token counts: `(batch, context_tokens)` for all of `x` alike, or
        `(batch, tokens, context_tokens)`, where a token that may see nothing gathers zeros.
    Output shape: that of `x`.
    Reference: Alayrac et al., 2022, arXiv 2204.14198, section 2.2.
    """

    def __init__(self, num_heads, hidden_dim, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.hidden_dim = positive("hidden_dim", hidden_dim)
        self.attention_norm = LayerNormalization(epsilon=1e-6, name="attention_norm", dtype=policy)
        self.attention = CrossAttention(num_heads, name="attention", dtype=policy)
        self.hidden_norm = LayerNormalization(epsilon=1e-6, name="hidden_norm", dtype=policy)
        self.hidden = Dense(hidden_dim, activation="gelu", name="hidden", dtype=policy)

    def build(self, x_shape, context_shape, context_mask_shape=None):
        self.attention_norm.build(x_shape)
        self.attention.build(x_shape, context_shape)
        self.hidden_norm.build(x_shape)
        self.hidden.build(x_shape)
        self.output_projection = Dense(x_shape[-1], name="output", dtype=self.dtype_policy)
        self.output_projection.build((*x_shape[:-1], self.hidden_dim))
        self.attention_gate = self.add_weight(name="attention_gate", shape=(), initializer="zeros")
        self.hidden_gate = self.add_weight(name="hidden_gate", shape=(), initializer="zeros")

    def call(self, x, context, context_mask=None):
        attended = gathered(self.attention, self.attention_norm.call(x), context, context_mask)
        x = x + ops.tanh(ops.convert_to_tensor(self.attention_gate)) * attended
        hidden = self.output_projection.call(self.hidden.call(self.hidden_norm.call(x)))
        return x + ops.tanh(ops.convert_to_tensor(self.hidden_gate)) * hidden

    def compute_output_shape(self, x_shape, context_shape, context_mask_shape=None):
        return x_shape


@keras.saving.register_keras_serializable(package="triptych")
class PerceiverResampler(keras.layers.Layer):
    """Any number of tokens to a fixed number: learned latent tokens gather from them and from one another, several times.

    Args:
        num_latents: Number of tokens that come out.
        depth: Number of rounds, each an attention and a perceptron.
        num_heads: Number of heads; it must divide the width.
    Input shape: `(batch, tokens, width)`.
    Output shape: `(batch, num_latents, width)`.
    Reference: Alayrac et al., 2022, arXiv 2204.14198, section 2.1; Jaegle et al., 2021, arXiv 2103.03206.
    """

    def __init__(self, num_latents, depth=1, num_heads=4, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.num_latents = positive("num_latents", num_latents)
        self.latents_initializer = keras.initializers.TruncatedNormal(stddev=0.02)
        self.context_norms, self.latent_norms, self.hidden_norms, self.attentions = [], [], [], []
        for index in range(positive("depth", depth)):
            for name in ("context", "latent", "hidden"):
                norm = LayerNormalization(epsilon=1e-6, name=f"{name}_norm_{index}", dtype=policy)
                getattr(self, f"{name}_norms").append(norm)
            self.attentions.append(CrossAttention(num_heads, name=f"attention_{index}", dtype=policy))
        self.norm = LayerNormalization(epsilon=1e-6, name="norm", dtype=policy)

    def build(self, input_shape):
        batch, tokens, width = input_shape
        shape = (batch, self.num_latents, width)
        self.latents = self.add_weight(name="latents", shape=shape[1:], initializer=self.latents_initializer)
        self.hiddens, self.outputs = [], []
        for index, attention in enumerate(self.attentions):
            self.context_norms[index].build(input_shape)
            self.latent_norms[index].build(shape)
            self.hidden_norms[index].build(shape)
            attention.build(shape, (batch, None if tokens is None else tokens + self.num_latents, width))
            self.hiddens.append(Dense(4 * width, activation="gelu", name=f"hidden_{index}", dtype=self.dtype_policy))
            self.outputs.append(Dense(width, name=f"output_{index}", dtype=self.dtype_policy))
            self.hiddens[index].build(shape)
            self.outputs[index].build((*shape[:-1], 4 * width))
        self.norm.build(shape)

    def call(self, x):
        latents = ops.convert_to_tensor(self.latents)
        latents = ops.broadcast_to(latents, (ops.shape(x)[0], *latents.shape))
        for index, attention in enumerate(self.attentions):
            normed = self.latent_norms[index].call(latents)
            context = ops.concatenate([self.context_norms[index].call(x), normed], axis=1)
            latents = latents + attention.call(normed, context)
            hidden = self.hiddens[index].call(self.hidden_norms[index].call(latents))
            latents = latents + self.outputs[index].call(hidden)
        return self.norm.call(latents)

    def compute_output_shape(self, input_shape):
        return input_shape[0], self.num_latents, input_shape[-1]


@keras.saving.register_keras_serializable(package="triptych")
class LastPicture(keras.layers.Layer):
    """Which pictures' tokens each token of a text may see: those of the last picture whose place it has passed.

    Args:
        image_token: Id of the token that stands for a picture; the first stands for the first one, and so on.
        num_images: Number of pictures.
        tokens_per_image: Tokens of each.
    Input shape: `(batch, tokens)`, ids.
    Output shape: `(batch, tokens, num_images * tokens_per_image)`, booleans; none is true before the first picture.
    Reference: Alayrac et al., 2022, arXiv 2204.14198, section 2.3.
    """

    steps_many = True

    def __init__(self, image_token, num_images, tokens_per_image, **kwargs):
        super().__init__(**kwargs)
        self.image_token = image_token
        self.num_images = positive("num_images", num_images)
        self.tokens_per_image = positive("tokens_per_image", tokens_per_image)

    def call(self, tokens):
        return self.visible(ops.cumsum(ops.cast(ops.equal(tokens, self.image_token), "int32"), axis=1))

    def start(self, batch_size, length):
        """How many pictures were passed."""
        return [ops.zeros((batch_size, 1), "int32")]

    def step(self, tokens, state, position):
        passed = state[0] + ops.cumsum(ops.cast(ops.equal(tokens, self.image_token), "int32"), axis=1)
        return self.visible(passed), [passed[:, -1:]]

    def visible(self, passed):
        passed = ops.expand_dims(ops.minimum(passed, self.num_images), -1)
        pictures = ops.arange(self.num_images * self.tokens_per_image, dtype="int32") // self.tokens_per_image
        return ops.equal(passed - 1, pictures)

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.num_images * self.tokens_per_image)


def gathered(attention, x, context, mask):
    """What a `CrossAttention` gives, its mask one for all queries or one for each."""
    if mask is None or len(mask.shape) == 2:
        return attention.call(x, context, mask)
    query = separated(attention.query.call(x), attention.features)
    heads = selective_attention(query, *attention.keys_and_values(context), mask)
    return joined(attention.output_projection, heads)


def selective_attention(query, key, value, mask):
    """Attention where each query has a mask of its own, and a query that may see nothing gets zeros.

    Args:
        query: `(batch, tokens, heads, features)`.
        key, value: `(batch, context_tokens, heads, features)`.
        mask: `(batch, tokens, context_tokens)`, true where a context token counts.
    """
    mask = ops.cast(ops.expand_dims(mask, 1), "bool")
    scores = ops.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
    scores = ops.where(mask, ops.cast(scores, keras.config.floatx()), -1e9)
    shares = ops.where(mask, ops.softmax(scores, axis=-1), 0.0)
    return ops.einsum("bhqk,bkhd->bqhd", ops.cast(shares, value.dtype), value)
