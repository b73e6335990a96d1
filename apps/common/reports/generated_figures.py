"""What a report shows of a model that draws: samples, ways between latent vectors, pictures drawn anew from their codes."""

import numpy as np

from apps.common import figures
from apps.common.data.examples import evenly_spaced
from apps.common.reports.generated_images import draw_images, latents_of, sheet, spherical
from apps.common.training.batches import predict_all


def figures_of(model, data, seed, **sampling):
    """`{name: figure}`, each with its model and seed in the file.

    Args:
        model: That draws.
        data: Whose test pictures an autoencoder draws anew, and whose captions a model of texts is given.
        seed: Of the latent vectors between which ways are drawn; samples are always those of seed 0.
        sampling: As of `draw_images`.
    """
    ends = latents_of(model, [seed, 43], 12)
    ways = np.concatenate([spherical(*pair, np.linspace(0, 1, 10)) for pair in zip(ends[:6], ends[6:], strict=True)])
    labels = np.repeat(np.arange(6) % len(data.about["class_names"]), 10)
    if data.about.get("captions"):
        labels = data.test.y["text"][np.repeat(np.arange(6) % len(data.test), 10)]
    drawn = {
        "samples": figures.mosaic(**sheet(model, data.about), title="samples"),
        "interpolation": figures.mosaic(draw_images(model, ways, labels, **sampling), 10, "from one latent vector to another"),
    }
    chosen = evenly_spaced(len(data.test), 10)
    if hasattr(model, "kl_weight"):
        given, labels = data.test.take(chosen)
        again = draw_images(model, predict_all(model, given)[0], labels)
        drawn["reconstructions"] = figures.mosaic(np.concatenate([given, again]), len(given), names=["test image", "again"])
    if hasattr(model, "autoencoder"):
        given = data.test.x[chosen]
        again = np.rint(255 * model.pictures(predict_all(model, given))).astype("uint8")
        drawn["codes"] = figures.mosaic(np.concatenate([given, again]), len(given), names=["test image", "from its code"])
    return {name: figures.generated(each, model, seed=0 if name == "samples" else seed) for name, each in drawn.items()}
