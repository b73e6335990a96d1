"""Hand-written training of a VAE and a GAN beside our `fit`, for `triptych bench image-generation`.

The networks are those of the recipes mnist-vae and mnist-gan: 28 x 28 grey images, two halvings, 16 and 32 channels.
"""

import functools
import time

import numpy as np

from bench import own_network
from bench.family import EVERYWHERE, Family
from bench.images import BATCH_SIZE, images

WIDTH, RATE = 16, 1e-3
LATENT, BETA1 = {"vae": 16, "dcgan": 64}, {"vae": 0.9, "dcgan": 0.5}


def setting(name, data=None):
    """`(app, options, data)` under which the app trains this network."""
    from apps import image_generation as app

    return app, {"model": name, "width": WIDTH, "learning_rate": RATE, "batch_size": BATCH_SIZE}, data or images()


def batches(pixels, steps):
    """Shuffled batches of uint8 images."""
    order = np.random.default_rng(0).permutation(len(pixels))
    for step in range(steps):
        at = (step * BATCH_SIZE) % (len(order) - BATCH_SIZE + 1)
        yield pixels[order[at : at + BATCH_SIZE]]


class TorchLoop:
    """Eager torch, the networks in `torch.nn`; `run(steps)` returns the seconds they took."""

    def __init__(self, name, data):
        import torch
        from torch import nn

        torch.manual_seed(0)
        latent = LATENT[name]

        def encoder(outputs):
            halved = [nn.Conv2d(1, WIDTH, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(WIDTH, 2 * WIDTH, 4, 2, 1), nn.LeakyReLU(0.2)]
            return nn.Sequential(*halved, nn.Flatten(), nn.Linear(49 * 2 * WIDTH, outputs))

        self.generator = nn.Sequential(
            nn.Linear(latent, 49 * 2 * WIDTH, bias=False), nn.Unflatten(1, (2 * WIDTH, 7, 7)), nn.BatchNorm2d(2 * WIDTH),
            nn.ReLU(), nn.Conv2d(2 * WIDTH, 4 * WIDTH, 3, 1, 1, bias=False), nn.PixelShuffle(2), nn.BatchNorm2d(WIDTH),
            nn.ReLU(), nn.Conv2d(WIDTH, 4, 3, 1, 1), nn.PixelShuffle(2),
        )  # fmt: skip
        self.encoder = encoder(2 * latent if name == "vae" else 1)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        for network in (self.generator, self.encoder):
            network.to(self.device)
        groups = [[*self.generator.parameters(), *self.encoder.parameters()]]
        if name == "dcgan":
            groups = [self.generator.parameters(), self.encoder.parameters()]
        self.optimizers = [torch.optim.Adam(group, RATE, (BETA1[name], 0.999)) for group in groups]
        self.torch = torch
        self.latent = latent
        self.pixels = data.train.x
        self.step = self.vae if name == "vae" else self.gan

    def vae(self, x):
        torch, functional = self.torch, self.torch.nn.functional
        mean, log_variance = self.encoder(2 * x - 1).chunk(2, 1)
        logits = self.generator(mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean))
        errors = functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3))
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
        loss = (errors + kl).mean()
        self.optimizers[0].zero_grad()
        loss.backward()
        self.optimizers[0].step()
        return loss

    def gan(self, x):
        torch, softplus = self.torch, self.torch.nn.functional.softplus
        generator, discriminator = self.optimizers
        fake = torch.tanh(0.5 * self.generator(torch.randn(len(x), self.latent, device=x.device)))
        loss = softplus(-self.encoder(2 * x - 1)).mean() + softplus(self.encoder(fake.detach())).mean()
        discriminator.zero_grad()
        loss.backward()
        discriminator.step()
        self.encoder.requires_grad_(False)
        fooled = softplus(-self.encoder(fake)).mean()
        generator.zero_grad()
        fooled.backward()
        generator.step()
        self.encoder.requires_grad_(True)
        return loss

    def run(self, steps):
        start = time.perf_counter()
        for pixels in batches(self.pixels, steps):
            loss = self.step(self.torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float() / 255)
        loss.item()
        return time.perf_counter() - start


class JaxLoop:
    """One jitted step with donated buffers, the networks in `jax.numpy`; `run(steps)` returns the seconds they took."""

    def __init__(self, name, data):
        import jax
        import jax.numpy as jnp
        import optax

        numbers, latent = np.random.default_rng(0), LATENT[name]

        def kernel(*shape):
            return jnp.asarray(numbers.normal(0, 0.05, shape), "float32")

        def scales(channels):
            return jnp.ones(channels), jnp.zeros(channels)

        outputs = 2 * latent if name == "vae" else 1
        generator = {
            "dense": kernel(latent, 49 * 2 * WIDTH), "norm1": scales(2 * WIDTH), "conv1": kernel(3, 3, 2 * WIDTH, 4 * WIDTH),
            "norm2": scales(WIDTH), "conv2": kernel(3, 3, WIDTH, 4), "bias": jnp.zeros(4),
        }  # fmt: skip
        encoder = {
            "conv1": kernel(4, 4, 1, WIDTH), "bias1": jnp.zeros(WIDTH), "conv2": kernel(4, 4, WIDTH, 2 * WIDTH),
            "bias2": jnp.zeros(2 * WIDTH), "dense": kernel(49 * 2 * WIDTH, outputs), "bias": jnp.zeros(outputs),
        }  # fmt: skip
        moving = [(jnp.zeros(channels), jnp.ones(channels)) for channels in (2 * WIDTH, WIDTH)]

        def convolution(x, kernel, stride=1):
            return jax.lax.conv_general_dilated(
                x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )

        def encode(weights, x):
            x = jax.nn.leaky_relu(convolution(x, weights["conv1"], 2) + weights["bias1"], 0.2)
            x = jax.nn.leaky_relu(convolution(x, weights["conv2"], 2) + weights["bias2"], 0.2)
            return x.reshape(len(x), -1) @ weights["dense"] + weights["bias"]

        def shuffled(x):
            count, height, width, channels = x.shape
            x = x.reshape(count, height, width, 2, 2, channels // 4).transpose(0, 1, 3, 2, 4, 5)
            return x.reshape(count, 2 * height, 2 * width, channels // 4)

        def norm(x, scale, old):
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            new = tuple(0.9 * before + 0.1 * now for before, now in zip(old, (mean, variance), strict=True))
            return jax.nn.relu((x - mean) * jax.lax.rsqrt(variance + 1e-3) * scale[0] + scale[1]), new

        def draw(weights, z, moving):
            x, first = norm((z @ weights["dense"]).reshape(-1, 7, 7, 2 * WIDTH), weights["norm1"], moving[0])
            x, second = norm(shuffled(convolution(x, weights["conv1"])), weights["norm2"], moving[1])
            return shuffled(convolution(x, weights["conv2"]) + weights["bias"]), [first, second]

        def vae_loss(weights, moving, x, key):
            mean, log_variance = jnp.split(encode(weights[1], 2 * x - 1), 2, -1)
            z = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape)
            logits, moving = draw(weights[0], z, moving)
            errors = (jax.nn.softplus(logits) - x * logits).sum((1, 2, 3))
            kl = 0.5 * (mean**2 + jnp.exp(log_variance) - 1 - log_variance).sum(1)
            return (errors + kl).mean(), moving

        def gan_loss(weights, moving, x, key):
            logits, moving = draw(weights[0], jax.random.normal(key, (len(x), latent)), moving)
            fake, stopped = jnp.tanh(0.5 * logits), jax.lax.stop_gradient
            real, judged = encode(weights[1], 2 * x - 1), encode(weights[1], stopped(fake))
            fooled = encode(stopped(weights[1]), fake)
            return (jax.nn.softplus(-real) + jax.nn.softplus(judged) + jax.nn.softplus(-fooled)).mean(), moving

        loss, optimizer = {"vae": vae_loss, "dcgan": gan_loss}[name], optax.adam(RATE, BETA1[name])

        def step(weights, moving, state, key, pixels):
            key, used = jax.random.split(key)
            slope = jax.value_and_grad(loss, has_aux=True)
            (value, moving), gradients = slope(weights, moving, pixels.astype("float32") / 255, used)
            updates, state = optimizer.update(gradients, state)
            return optax.apply_updates(weights, updates), moving, state, key, value

        self.pixels = data.train.x
        self.carried = [[generator, encoder], moving, optimizer.init([generator, encoder]), jax.random.key(0)]
        self.step = jax.jit(step, donate_argnums=(0, 1, 2, 3))

    def run(self, steps):
        start = time.perf_counter()
        for pixels in batches(self.pixels, steps):
            *self.carried, value = self.step(*self.carried, pixels)
        value.block_until_ready()
        return time.perf_counter() - start


def family(name, measured_by):
    loops = {
        "torch": lambda data: {"torch eager": TorchLoop(name, data).run},
        "jax": lambda data: {"jax.jit, donated": JaxLoop(name, data).run},
        "tensorflow": lambda data: {"tf.function": own_network.TensorFlowLoop(functools.partial(setting, name), data).run},
    }
    return Family(functools.partial(setting, name), loops, measured_by=measured_by)


FAMILIES = {"vae": family("vae", EVERYWHERE), "dcgan": family("dcgan", ("speed",))} | {
    name: own_network.family(functools.partial(setting, name)) for name in ("wgan-gp", "cflow")
}
