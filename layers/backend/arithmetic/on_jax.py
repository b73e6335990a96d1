"""JAX: what XLA compiles badly for processors, written another way."""

import functools

import jax
import jax.numpy as jnp

from .. import fallback_log
from . import plain
from .plain import same_padding

WHOLE, SPAN = 256, 128  # attention: tokens whose scores are made at once; queries at a time


def dense(x, kernel, bias):
    # XLA on a processor multiplies matrices faster than it contracts a 3-D tensor.
    shape = x.shape
    x = jnp.matmul(x.reshape(-1, shape[-1]), kernel)
    if bias is not None:
        x = x + bias
    return x.reshape(*shape[:-1], kernel.shape[-1])


def logits(x, table):
    return plain.single(dense(x, table.T, None))


def attention(query, key, value, causal, mask):
    """On a processor: no score of a key that lies after all of its queries, and from `WHOLE` tokens on one example at a time,
    its scores made again on the way back. On a GPU in half precision: cuDNN's, which never keeps the scores."""
    processor = jax.default_backend() == "cpu"
    if not processor and mask is None and query.shape[1] > 1 and has_fused_attention(query, key, causal):
        return jax.nn.dot_product_attention(query, key, value, is_causal=causal, implementation="cudnn")
    given = tuple(jnp.swapaxes(part, 1, 2) for part in (query, key, value))
    if not processor or query.shape[1] * key.shape[1] <= WHOLE**2:
        x = attended(*given, causal, mask)
    else:

        @jax.checkpoint
        def one(example):
            *heads, mask = jax.tree.map(lambda part: part[None], example)
            return attended(*heads, causal, mask)[0]

        x = jax.lax.map(one, (*given, mask))
    return jnp.swapaxes(x, 1, 2)


def has_fused_attention(query, key, causal):
    """Whether cuDNN takes attention of these shapes, there and back: not every version does, on every chip."""
    capability = float(getattr(jax.devices()[0], "compute_capability", 0))
    half = query.dtype in (jnp.bfloat16, jnp.float16) and query.dtype == key.dtype
    if capability < 8 or not half or query.shape[-1] % 8 or query.shape[-1] > 128:
        return False
    return runs_fused(query.shape[1:], key.shape[1:], str(query.dtype), causal)


@functools.cache
def runs_fused(query_shape, key_shape, dtype, causal):
    """Tried once on one example of the shapes: a kernel that is missing shows only when it is compiled."""

    def loss(query, key, value):
        return jax.nn.dot_product_attention(query, key, value, is_causal=causal, implementation="cudnn").astype("float32").sum()

    try:
        with jax.ensure_compile_time_eval():
            query, key = (jnp.ones((1, *shape), dtype) for shape in (query_shape, key_shape))
            jax.block_until_ready(jax.jit(jax.grad(loss, (0, 1, 2)))(query, key, key))
    except Exception as error:  # JAX's own and XLA's, of many kinds
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        fallback_log.note(f"attention keeps its scores, which takes more memory: cuDNN has no kernel for it ({why})")
        return False
    return True


def attended(query, key, value, causal, mask):
    """Attention over tensors `(batch, heads, tokens, features)`; scores and shares are of single precision at least."""
    precision = jnp.promote_types(query.dtype, "float32")
    scale, lowest = query.shape[-1] ** -0.5, -0.7 * float(jnp.finfo(precision).max)  # what Keras puts in a masked score's place
    tokens, results = query.shape[2], []
    for start in range(0, tokens, SPAN if causal else tokens):
        end = min(start + SPAN, tokens) if causal else tokens
        seen = slice(end) if causal else slice(None)
        keys, values = (part[:, :, seen].astype(precision) for part in (key, value))
        scores = jnp.einsum("bhqf,bhkf->bhqk", query[:, :, start:end].astype(precision), keys) * scale
        if causal:
            scores = jnp.where(jnp.arange(start, end)[:, None] >= jnp.arange(keys.shape[2]), scores, lowest)
        if mask is not None:
            counts = mask[:, None, None, seen] if mask.ndim == 2 else mask[:, None, start:end, seen]
            scores = jnp.where(counts, scores, lowest)
        weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
        results.append(jnp.einsum("bhqk,bhkf->bhqf", weights, values) / weights.sum(-1)[..., None])
    return jnp.concatenate(results, 2).astype(query.dtype)


def max_pooling(x, pool_size, strides, padding):
    """The maximum over shifted slices: the gradient of XLA's own windowed maximum is 20 times slower on a processor."""
    if padding == "same":
        widths = [same_padding(*sizes) for sizes in zip(x.shape[1:3], pool_size, strides, strict=True)]
        x = jnp.pad(x, ((0, 0), *widths, (0, 0)), constant_values=-jnp.inf)
    sizes = zip(x.shape[1:3], pool_size, strides, strict=True)
    height, width = ((size - pool) // stride + 1 for size, pool, stride in sizes)
    result = None
    for row in range(pool_size[0]):
        for column in range(pool_size[1]):
            rows = slice(row, row + strides[0] * (height - 1) + 1, strides[0])
            columns = slice(column, column + strides[1] * (width - 1) + 1, strides[1])
            result = x[:, rows, columns] if result is None else jnp.maximum(result, x[:, rows, columns])
    return result
