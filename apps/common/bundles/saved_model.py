"""`--pretrained tfhub:PATH_OR_URL`: features of pictures by a TensorFlow SavedModel, computed once and kept on disk.

A bundle keeps the SavedModel as one file, so that prediction makes the features anew on every backend. TensorFlow computes them,
also beside another backend.
"""

import io
import os
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apps.common.bundles.bundle import open_bundle
from apps.common.data.examples import Examples
from apps.common.data.fingerprint import digest, row_digests
from apps.common.data.stored import stored_arrays
from apps.common.errors import UserError
from apps.common.options import backends
from apps.common.options.training import library_of

LIBRARY, FILE = "tfhub:", "saved_model.tar"
MOST = 4 << 30  # bytes of a SavedModel


def content_of(source):
    """The packed SavedModel that a source of weights names or, being a bundle, has in it; `None` of any other."""
    if source is None or library_of(source) not in (None, LIBRARY):
        return None
    return packed(source) if library_of(source) else open_bundle(source).about.files.get(FILE)


def packed(source):
    """The files of the SavedModel that a source names, as the bytes of one archive, the same for the same files.

    Raises:
        UserError: There is none, or it cannot be fetched.
    """
    folder = folder_of(source)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if sum(path.stat().st_size for path in files) > MOST:
        raise UserError(f"--pretrained {source}: larger than {MOST >> 30} GiB; give a smaller one")
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for path in files:
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size = path.stat().st_size
            with open(path, "rb") as file:
                archive.addfile(entry, file)
    return written.getvalue()


def folder_of(source):
    """The folder of a SavedModel: as given, or where TensorFlow Hub has put what it fetched from a URL."""
    place = source.removeprefix("tfhub:")
    if place.startswith(("http://", "https://")):
        backends.reveal("tensorflow")
        try:
            import tensorflow_hub
        except ImportError:
            raise UserError(f"--pretrained {source}: a URL needs tensorflow-hub. Install: pip install -e '.[hub]'") from None
        try:
            folder = Path(tensorflow_hub.resolve(place))
        except Exception as error:  # a download fails in as many ways as there are
            said = " ".join(str(error).split())[:160]
            raise UserError(f"--pretrained {source}: cannot be fetched ({said}); give the path of a folder") from None
    else:
        folder = Path(place).expanduser()
    if not (folder / "saved_model.pb").is_file():
        raise UserError(f"--pretrained {source}: no saved_model.pb is there; expected tfhub:FOLDER of a SavedModel, or its URL")
    return folder


def opened(content, shape, what):
    """The `layers.backend.saved_model.SavedModel` of packed files, for pictures of `shape`.

    Raises:
        UserError: TensorFlow is not installed, or the SavedModel takes no such pictures.
    """
    from layers.backend.saved_model import SavedModel

    backends.reveal("tensorflow")
    with tempfile.TemporaryDirectory() as folder:
        try:
            unpack(content, folder)
            return SavedModel(folder, tuple(shape[:2]))
        except ImportError:
            raise UserError(f"{what}: a SavedModel needs TensorFlow. Install: pip install -e '.[tensorflow]'") from None
        except (ValueError, OSError, tarfile.TarError) as error:
            said = " ".join(str(error).split())[:300]
            raise UserError(f"{what}: {said}. Give another SavedModel, or another --image-size") from None


def unpack(content, folder):
    """Write the plain files of a packed SavedModel into a folder.

    Raises:
        ValueError: One of them would lie outside it.
    """
    root = Path(folder).resolve()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            target = (root / member.name).resolve()
            if not member.isfile() or not target.is_relative_to(root):
                raise ValueError(f"{FILE}: {member.name[:80]!r} is no plain file inside it")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.extractfile(member).read())


@dataclass(frozen=True)
class Featured:
    """Examples whose inputs are features of pictures; the pictures themselves say which they are."""

    images: np.ndarray
    features: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None = None

    def __len__(self):
        return len(self.images)

    @property
    def x(self):
        return self.features

    def take(self, indices):
        return Examples(self.features, self.y, self.weight).take(indices)

    def subset(self, indices):
        rows = (None if each is None else each[indices] for each in (self.images, self.features, self.y, self.weight))
        return Featured(*rows)

    def fingerprint(self):
        return digest(self.images, self.y)

    def example_digests(self, targets=True):
        return row_digests((self.images, self.y)[: 1 + targets])


def with_features(content, examples, what):
    """Examples of pictures with their features, which are computed once and kept in the user's cache."""
    made_of = digest(examples.x, np.frombuffer(content, "uint8"))

    def pieces():
        yield {"features": opened(content, examples.x.shape[1:], what).compute(examples.x)}

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "triptych" / "features"
    features = np.asarray(stored_arrays(cache / made_of, pieces)["features"])
    return Featured(examples.x, features, examples.y, examples.weight)


def features_by(model, images, content):
    """Features of pictures as a trained model sees them: by the SavedModel as it came, or with the weights it was trained to."""
    from layers.backend.keras_private import all_layers
    from layers.saved_model import SavedModelFeatures

    graph = opened(content, images.shape[1:], FILE)
    trained = next((layer for layer in all_layers(model) if isinstance(layer, SavedModelFeatures)), None)
    if trained is not None:
        graph.set_weights(trained.all_weights)
    return graph.compute(images)
