"""Pictures beside the true ones: brightness, PSNR, SSIM, enlarging by a network in tiles, and drawings of it."""

import math

import keras
import numpy as np

from apps.common import figures
from apps.common.data.images.pictures import BLACK, luminance
from layers import backend

CAP = 100.0  # dB that equal pictures get: the error is less than the rounding of single precision


def psnr(picture, true):
    """Peak signal-to-noise ratio in dB of two arrays in 0..255: `20 log10(255 / root mean square error)`, at most 100."""
    error = np.mean(np.square(np.asarray(picture, "float64") - np.asarray(true, "float64")))
    return CAP if error == 0 else float(min(CAP, 10 * math.log10(255.0**2 / error)))


def ssim(picture, true, side=11, deviation=1.5):
    """Structural similarity of two grey pictures in 0..255: the mean of `l c s` under a sliding Gaussian window.

    `((2 m n + C1) (2 cov + C2)) / ((m^2 + n^2 + C1) (v + w + C2))`, m, n the means, v, w the variances under the window,
    C1 = (0.01 * 255)^2, C2 = (0.03 * 255)^2. Only whole windows count; in a picture that is smaller the window is, too.

    Args:
        picture, true: `(height, width)` or `(height, width, 1)`.
        side: Of the window, in pixels.
        deviation: Of the Gaussian, in pixels.
    Reference: Wang et al., 2004, IEEE Transactions on Image Processing 13 (4).
    """
    x, y = (np.asarray(each, "float64").reshape(each.shape[:2]) for each in (picture, true))

    def blurred(array):
        for axis in (0, 1):
            size = min(side, array.shape[axis])
            weights = np.exp(-0.5 * np.square((np.arange(size) - (size - 1) / 2) / deviation))
            windows = np.lib.stride_tricks.sliding_window_view(array, size, axis=axis)
            array = windows @ (weights / weights.sum())
        return array

    mean_x, mean_y = blurred(x), blurred(y)
    variance_x, variance_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    first, second = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    above = (2 * mean_x * mean_y + first) * (2 * covariance + second)
    return float(np.mean(above / ((mean_x**2 + mean_y**2 + first) * (variance_x + variance_y + second))))


def shaved(picture, border):
    """The picture without so many pixels at each edge, of which an enlargement knows one side only."""
    return picture[border : picture.shape[0] - border, border : picture.shape[1] - border]


def quality(enlarged, true, border):
    """PSNR and SSIM of brightness, `border` pixels shaved off each edge."""
    pair = shaved(enlarged, border), shaved(true, border)
    return {"psnr": psnr(*pair), "ssim": ssim(*pair)}


def mean_quality(rows):
    """The mean over pictures of each number."""
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def detail(pictures, side):
    """The square in the middle of each of some pictures of one size, where it is larger than the square."""
    cut = []
    for picture in pictures:
        top, left = (max(0, (size - side) // 2) for size in picture.shape[:2])
        cut.append(picture[top : top + side, left : left + side])
    return cut


def in_size(network, image_shape):
    """A network of convolutions with the same weights that takes pictures of another height and width."""
    plain = keras.Model(network.inputs[0], network.outputs[0])  # not compiled, or Keras would compile the copy as well
    made = keras.models.clone_model(plain, input_tensors=keras.Input(image_shape, name="image"))
    made.set_weights(network.get_weights())
    return made


class Enlarger:
    """Enlarges brightness of any size by a network, tile by tile without seams.

    The picture is surrounded by `border` repeated pixels, and of each tile only what lies `border` pixels inside is taken. A
    pixel then sees all that the network can see around it, so the result is that of one pass over the whole picture.

    Args:
        network: A model of convolutions from `(height, width, 1)`, 0..255, to brightness in 0..1, `factor` times as large.
        factor: How many times higher and wider the picture becomes.
        border: Pixels of the small picture that the network looks away from one of its own.
        tile: Side of a tile in pixels of the small picture, without its border.
        batch_size: Tiles at a time.
    """

    def __init__(self, network, factor, border, tile=64, batch_size=4):
        side = tile + 2 * border
        self.factor, self.border, self.tile, self.batch_size = factor, border, tile, batch_size
        self.forward = backend.forward(in_size(network, (side, side, 1)))

    def __call__(self, small):
        """Brightness `(height, width, 1)` in 0..255 to `(factor * height, factor * width, 1)`, uint8."""
        height, width = small.shape[:2]
        rows, columns = -(-height // self.tile), -(-width // self.tile)
        below, right = rows * self.tile - height, columns * self.tile - width
        border, side = self.border, self.tile + 2 * self.border
        padded = np.pad(small, ((border, border + below), (border, border + right), (0, 0)), mode="edge")
        large = np.empty((rows * self.tile * self.factor, columns * self.tile * self.factor, 1), "uint8")
        corners = [(row * self.tile, column * self.tile) for row in range(rows) for column in range(columns)]
        for first in range(0, len(corners), self.batch_size):
            chosen = corners[first : first + self.batch_size]
            filled = chosen + chosen[:1] * (self.batch_size - len(chosen))  # another size would compile again
            batch = np.stack([padded[top : top + side, left : left + side] for top, left in filled])
            outputs = keras.ops.convert_to_numpy(self.forward(batch))
            for (top, left), output in zip(chosen, outputs, strict=False):
                inside = shaved(output, border * self.factor)
                place = [slice(self.factor * start, self.factor * (start + self.tile)) for start in (top, left)]
                large[place[0], place[1]] = np.rint(np.clip(inside, 0, 1) * 255)
        return large[: self.factor * height, : self.factor * width]


def enlarged_colours(enlarge, pixels):
    """A uint8 picture in colours enlarged: its brightness by `enlarge`, its colours by Pillow's bicubic.

    Args:
        enlarge: An `Enlarger`.
        pixels: `(height, width, 3)`.
    """
    from PIL import Image

    bright = enlarge(luminance(pixels)).astype("float64")
    full = np.clip(np.rint((bright[..., 0] - BLACK) * (255 / 219)), 0, 255).astype("uint8")
    colours = Image.fromarray(pixels).convert("YCbCr").resize(full.shape[::-1], Image.Resampling.BICUBIC)
    channels = [Image.fromarray(full), *colours.split()[1:]]
    return np.asarray(Image.merge("YCbCr", channels).convert("RGB"))


def side_by_side(columns, titles, names=None):
    """Pictures in rows, a method a column, with a title over each column and a name before each row.

    Args:
        columns: A list of pictures for each method, uint8 `(height, width, channels)`.
        titles: One word a column.
        names: One word a row.
    """
    rows = len(columns[0])
    figure, axes = figures.new(2.4 * len(columns), 2.5 * rows, rows, len(columns))
    for index, axis in enumerate(np.ravel(axes)):
        row, column = divmod(index, len(columns))
        picture = np.asarray(columns[column][row])
        axis.imshow(picture[..., 0] if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=255)
        axis.set(xticks=[], yticks=[])
        if row == 0:
            axis.set_title(titles[column], fontsize=9)
        if column == 0 and names is not None:
            axis.set_ylabel(str(names[row])[-28:], fontsize=7)
    return figure
