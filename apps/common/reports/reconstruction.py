"""What an autoencoder loses: its error beside that of principal components, of JPEG and of a median filter."""

import io

import numpy as np

from apps.common import figures
from apps.common.reports.cached import cached_by_data
from apps.common.reports.generated_images import scaled
from apps.common.training.batches import predict_all

CHUNK = 8_000_000  # pixels that are computed on at a time
MOST_ROWS, MOST_NUMBERS = 5000, 40_000_000  # that principal components are fitted on
SHEET = 256  # pictures of the comparison with JPEG
QUALITIES = (1, 2, 4, 6, 8, 10, 13, 16, 20, 25, 30, 40, 50, 60, 70, 80, 90, 95)


def codes_of(model, images):
    """The code of each uint8 image; of a VAE the mean of its distribution."""
    codes = np.concatenate([predict_all(model.encoder, scaled(part)) for part in chunks(images)])
    return codes[..., : model.latent_dim] if codes.shape[-1] == 2 * model.latent_dim else codes


def chunks(images):
    """The images in turn, so many at a time that memory does not matter."""
    size = int(np.clip(CHUNK // np.prod(images.shape[1:]), 16, 1024))
    return [images[first : first + size] for first in range(0, len(images), size)]


def decoded(model, codes):
    """Images of codes, brightness in 0..1."""
    return 1 / (1 + np.exp(-predict_all(model.generator, codes).astype("float64")))


def restored(model, images):
    """Images through the code and back, brightness in 0..1."""
    return decoded(model, codes_of(model, images))


def eight_bit(brightness):
    return np.rint(np.clip(brightness, 0, 1) * 255).astype("uint8")


def squared_errors(rebuild, given, wanted):
    """Mean squared error of each image's brightness, `(n,)`.

    Args:
        rebuild: From uint8 images to brightness in 0..1.
        given: What it gets.
        wanted: What it should give, uint8.
    """
    found = []
    for part, target in zip(chunks(given), chunks(wanted), strict=True):
        errors = np.square(rebuild(part) - target / 255)
        found.append(errors.reshape(len(target), -1).mean(1))
    return np.concatenate(found)


def psnr(squared_error):
    """`10 log10(1 / mean squared error)` in dB, the mean over all pixels of all images; 100 at most."""
    return 10 * np.log10(1 / max(float(np.mean(squared_error)), 1e-10))


def noisy(images, deviation, seed):
    """uint8 images with normal noise, drawn by NumPy; `deviation` is of brightness in -1..1, as the model has it."""
    noise = np.random.default_rng([seed, 45]).normal(size=images.shape).astype("float32")
    return np.rint(np.clip(images + 127.5 * deviation * noise, 0, 255)).astype("uint8")


def median_filtered(images):
    """Each pixel the median of the three by three around it, brightness in 0..1."""
    from scipy.ndimage import median_filter

    return median_filter(images, size=(1, 3, 3, 1)) / 255


class Components:
    """The principal components of training images: the best linear autoencoder there is.

    Args:
        images: uint8 `(n, height, width, channels)`.
        size: Length of the code, as far as images and pixels suffice.
        seed: Of the sample that is fitted on and of the solver.
    """

    def __init__(self, images, size, seed):
        from sklearn.decomposition import PCA

        pixels = int(np.prod(images.shape[1:]))
        count = min(len(images), MOST_ROWS, max(50, MOST_NUMBERS // pixels))
        chosen = np.random.default_rng([seed, 46]).choice(len(images), count, replace=False)
        self.size, self.shape = min(size, count, pixels), images.shape[1:]
        solver = "full" if self.size > 0.5 * min(count, pixels) else "randomized"
        self.found = PCA(self.size, svd_solver=solver, random_state=seed).fit(self.rows(images[np.sort(chosen)]))

    def rows(self, images):
        return images.reshape(len(images), -1).astype("float32") / 255

    def codes(self, images):
        return self.found.transform(self.rows(images))

    def decoded(self, codes):
        return np.clip(self.found.inverse_transform(codes), 0, 1).reshape(-1, *self.shape)

    def restored(self, images):
        return self.decoded(self.codes(images))


@cached_by_data
def components_of(data, size, seed):
    """The `Components` of these training images."""
    return Components(data.train.x, size, seed)


def as_jpeg(images, wanted):
    """JPEG at the quality whose size is the nearest to `wanted` bytes an image: `(quality, bytes an image, images)`.

    All images lie in one file, so that its header counts little, each in blocks of its own.
    """
    from PIL import Image

    count, height, width, channels = images.shape
    block = 8 if channels == 1 else 16
    extra = [-size % block for size in (height, width)]
    tiles = np.pad(images, ((0, 0), (0, extra[0]), (0, extra[1]), (0, 0)), mode="edge")
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    tiles = np.concatenate([tiles, np.zeros((rows * columns - count, *tiles.shape[1:]), "uint8")])
    sheet = tiles.reshape(rows, columns, *tiles.shape[1:]).swapaxes(1, 2)
    sheet = sheet.reshape(rows * tiles.shape[1], columns * tiles.shape[2], channels)
    picture = Image.fromarray(sheet[..., 0] if channels == 1 else sheet)
    files = {}
    for quality in QUALITIES:
        buffer = io.BytesIO()
        picture.save(buffer, "jpeg", quality=quality, optimize=True)
        files[quality] = buffer
    quality = min(files, key=lambda each: abs(np.log(files[each].tell() / count / wanted)))
    size = files[quality].tell() / count
    back = np.asarray(Image.open(files[quality])).reshape(rows, tiles.shape[1], columns, tiles.shape[2], channels)
    back = back.swapaxes(1, 2).reshape(rows * columns, *tiles.shape[1:])
    return quality, size, back[:count, :height, :width]


def histogram(errors, threshold, title):
    """How often which error occurs, on a logarithmic axis, and the threshold."""
    figure, axis = figures.new()
    axis.hist(np.log10(np.maximum(errors, 1e-10)), bins=40)
    axis.axvline(np.log10(max(threshold, 1e-10)), color="tab:red", linestyle="--", label="threshold from validation")
    axis.set(xlabel="log10 of the mean squared error", ylabel="test pictures", title=title)
    axis.legend(frameon=False)
    return figure
