"""The features of a network that is given: of an image classifier trained here, of VGG, or of one trained at once.

What they are for: the perceptual loss of super-resolution and the content and style of style transfer. The network's last maps
at each of its sizes, before the picture is made smaller, are its features: in VGG the last of each block of convolutions.
"""

import keras
import numpy as np

from apps.common.bundles.bundle import load_model, open_bundle
from apps.common.data.examples import Examples
from apps.common.data.images.pictures import Patches, photographs
from apps.common.errors import UserError, nearest
from apps.common.training.batches import Batches
from apps.common.training.fit import train_epochs
from apps.common.training.trunks import trained_network

VGG = ("VGG16", "VGG19")
VGG_MEAN = (123.68, 116.779, 103.939)  # of ImageNet, red, green, blue
MOST_MAPS = 4
SIDE, REGIONS, CROPS, EPOCHS = 32, (3, 4), 60, 6  # of the texture network: a crop's pixels, regions of a photograph


def given_features(source, image_shape):
    """A frozen model from pixels in 0..255 to a list of maps, the largest first, at most four.

    Args:
        source: `textures`, a small network trained at once to tell 24 regions of two photographs by crops of 32 pixels;
            `random`, the same network as it was drawn (Ustyuzhaninov et al., 2016, arXiv 1606.00021); a bundle of
            image-classification (folder, run id, `name@alias`); or `keras:VGG19=FILE`, the weights of `keras.applications`
            without its top, in a file (without `=FILE` Keras downloads them).
        image_shape: `(height, width, channels)` of the pictures, of one or three channels.
    Raises:
        UserError: The source is none of these, or has no maps.
    """
    if source in ("textures", "random"):
        network, scale, offset = texture_network(source == "textures"), [1 / 64.0] * 3, [-2.0] * 3
    elif source.startswith("keras:"):
        network, scale, offset = vgg_network(source), [1.0] * 3, [-mean for mean in VGG_MEAN]
    else:
        network, scale, offset = image_network("--features", source)
    maps = feature_maps(network)
    if not maps:
        raise UserError(f"--features {source}: this network has no feature maps; give one of convolutions")
    trunk = keras.Model(network.inputs[0], maps)
    channels = trunk.inputs[0].shape[-1]
    body = keras.models.clone_model(trunk, input_tensors=keras.Input((*image_shape[:2], channels)))
    body.set_weights(trunk.get_weights())
    inputs = x = keras.Input(image_shape, name="pixels")
    if image_shape[-1] != channels:
        x = keras.layers.Concatenate()([x] * 3) if channels == 3 else grey(x)
    x = keras.layers.Rescaling(scale, offset, dtype="float32")(x)
    if source.startswith("keras:"):
        x = keras.ops.flip(x, axis=-1)  # its weights are for blue, green, red
    model = keras.Model(inputs, body(x), name="features")
    model.trainable = False
    return model


def grey(x):
    """The mean of the colours, by a convolution of one pixel whose weights are constant."""
    from layers import Conv2D

    third = keras.initializers.Constant(1 / 3)
    return Conv2D(1, 1, use_bias=False, kernel_initializer=third, dtype="float32", name="grey")(x)


def feature_maps(network):
    """The last map of each size that is no pool's, the largest first; maps of fewer than two pixels a side are no features."""
    found = {}
    for layer in network.layers:
        tensor = getattr(layer, "output", None)
        shape = getattr(tensor, "shape", ())
        pool = "Pooling" in type(layer).__name__ or isinstance(layer, keras.layers.InputLayer)
        if len(shape) == 4 and not pool and min(shape[1:3]) > 1:
            found[tuple(shape[1:3])] = tensor
    return [found[size] for size in sorted(found, reverse=True)][:MOST_MAPS]


def image_network(option, source):
    """The network of a bundle of image-classification or contrastive, and how its pixels are standardised.

    Args:
        option: What it was named by, for a message.
        source: The bundle.
    Returns: A functional `keras.Model` without what comes before it; factor and offset of each channel.
    """
    bundle = open_bundle(source)
    if bundle.task not in ("image-classification", "contrastive"):
        raise UserError(
            f"{option} {source}: a bundle of {bundle.task}, expected one of image-classification or contrastive"
        )
    model = load_model(bundle)
    if bundle.task == "contrastive":
        network = model.encoder.get_layer("trunk")
    else:
        network = next((layer for layer in reversed(model.layers) if isinstance(layer, keras.Model)), None)
    if network is None:
        raise UserError(f"{option} {source}: no network was found in this bundle; give one of --model small-cnn, vgg or resnet")
    deviation, mean = np.array(bundle.about["deviation"]), np.array(bundle.about["mean"])
    return network, (1 / (255 * deviation)).tolist(), (-mean / deviation).tolist()


def vgg_network(source):
    """VGG of `keras.applications` without its top, with weights from a file, or those that Keras downloads."""
    name, _, file = source.removeprefix("keras:").partition("=")
    if name not in VGG:
        raise UserError(f"--features {source}: expected keras:VGG16=FILE or keras:VGG19=FILE. {nearest(name, VGG)}")
    return trained_network(f"--features {source}", name, file, (64, 64, 3))


def texture_network(trained=True):
    """A classifier of three convolutions, trained in seconds to tell from which region of two photographs a crop comes.

    Its crops differ by texture and colour, mirrored, turned, lighter or darker, so it learns what style is made of. Without
    training its weights are as they were drawn.
    """
    from layers import initialize
    from layers.models import small_cnn

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        network = small_cnn((SIDE, SIDE, 3), 2 * REGIONS[0] * REGIONS[1], filters=(16, 32, 48), dense_dim=32, dropout=0.0)
        initialize(network, 0)
        if trained and not _textures:
            network.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
            train_epochs(network, Batches(texture_crops(), 64, 0), seed=0, epochs=EPOCHS, accelerate=False)
            _textures.extend(network.get_weights())
        if trained:
            network.set_weights(_textures)
    finally:
        keras.config.set_dtype_policy(policy)
    return keras.Model(network.inputs[0], network.outputs[0])


_textures = []  # the weights, trained once in a process


def texture_crops():
    """Squares of each region of the two photographs, standardised, with the number of the region."""
    regions = []
    for picture in photographs():
        for rows in np.array_split(picture.pixels, REGIONS[0], axis=0):
            regions += np.array_split(rows, REGIONS[1], axis=1)
    crops = []
    for region in regions:
        squares = Patches([(region,)], SIDE, CROPS, 0)
        crops.append(squares.take(np.arange(CROPS))[0])
    crops, labels = np.concatenate(crops), np.repeat(np.arange(len(regions)), CROPS)
    gains = np.random.default_rng([0, 33]).uniform(0.6, 1.2, (len(crops), 1, 1, 1))
    return Examples((crops * gains / 64.0 - 2.0).astype("float32"), labels)
