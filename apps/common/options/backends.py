"""Which backend a command runs on, settled before any is imported."""

import contextlib
import ctypes
import gc
import importlib
import importlib.machinery
import importlib.util
import logging
import os
import sys
import tempfile

from apps.common.errors import UserError, nearest

BACKENDS = ("tensorflow", "jax", "torch")
WITHOUT_A_POOL = ("jax", "torch")  # take the memory of every temporary anew from the C library; TensorFlow keeps its own
# What glibc's malloc.h calls these settings, and what they are set to.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -3, -4, -8
KEPT, AHEAD = 1 << 30, 64 << 20  # bytes
GIVEN_BACK = 32 << 20  # bytes, the most that glibc takes for this


def installed():
    """The backends whose package is on this machine, without importing one."""
    return [name for name in BACKENDS if importlib.util.find_spec(name) is not None]


def choose(name=None):
    """The backend for `--backend NAME`, else for `KERAS_BACKEND`, else the first that is installed (JAX before the rest).

    Raises:
        UserError: An unknown name, or one that is not installed, with the command that installs it.
    """
    where = "--backend" if name else "KERAS_BACKEND"
    name = name or os.environ.get("KERAS_BACKEND")
    present = installed()
    if not name:
        if not present:
            raise UserError("no backend is installed. Install one: pip install -e '.[jax]' (or tensorflow, or torch)")
        return next(each for each in ("jax", "tensorflow", "torch") if each in present)
    if name not in BACKENDS:
        raise UserError(f"{where} {name}: expected one of {', '.join(BACKENDS)}, auto. {nearest(name, (*BACKENDS, 'auto'))}")
    if name not in present:
        raise UserError(f"{where} {name}: not installed. Install it: pip install -e '.[{name}]'")
    return name


def prepare(name):
    """Set the environment of this process for the backend, and import it without its chatter."""
    os.environ["KERAS_BACKEND"] = name
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "3")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "triptych", "jax")
        with contextlib.suppress(OSError):
            # Whoever can write here can run code, so the folder is private.
            os.makedirs(cache, mode=0o700, exist_ok=True)
            os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
            os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    if name in WITHOUT_A_POOL:
        keep_freed_memory()
    # Texts come in batches of a few lengths, a graph of each: TensorFlow warns of the fifth, which is meant.
    logging.getLogger("tensorflow").addFilter(lambda record: "tf.function retracing" not in record.getMessage())
    sys.meta_path.insert(0, _Absent(name))
    with _quiet():
        importlib.import_module("keras")
    gc.freeze()  # half a million objects that no search for garbage need look at again


def reveal(name):
    """Let another backend be imported after all, beside the one that runs: for what no other can compute."""
    for each in sys.meta_path:
        if isinstance(each, _Absent):
            each.hidden.discard(name)


def keep_freed_memory():
    """Have the C library keep up to a gigabyte of what was freed, in one heap, where it is glibc and nobody has set it otherwise.

    By itself it maps each large block anew and gives it back, and the kernel clears every page of it: a fifth of a ResNet-20's
    step on JAX, a quarter of a small GPT's, half of a large graph's, and a third of the last on torch. Other heaps than
    the main one cannot keep large blocks, so there is only that one. On JAX 0.10.2 a GPT's step takes 39 ms with it and 58
    without, a ResNet-20's 161 and 179 (`triptych bench machinery`).
    """
    _set_malloc((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, KEPT), (M_TOP_PAD, AHEAD))


def give_back_large_blocks():
    """Have blocks of 32 MB and more mapped again, each by itself and only while it is used, of a run that makes huge ones.

    In one heap blocks of some hundred megabytes leave gaps that the next ones do not fit: a GAT over two million edges took
    12.9 GB on torch, and so 4.5.
    """
    _set_malloc((M_MMAP_THRESHOLD, GIVEN_BACK), (M_MMAP_MAX, 65536))


def _set_malloc(*settings):
    if "MALLOC_ARENA_MAX" in os.environ or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    with contextlib.suppress(OSError, AttributeError):  # another C library has no such call
        set_option = ctypes.CDLL(None).mallopt
        for option, value in settings:
            set_option(option, value)


class _Absent:
    """Import hook that hides the other backends: Keras would import TensorFlow to save a model and JAX for a callback
    it does not use, which costs seconds and 500 MB."""

    def __init__(self, running):
        self.hidden = {name for name in BACKENDS if name != running} - set(sys.modules)

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name in self.hidden else None

    def create_module(self, spec):
        raise ModuleNotFoundError(f"No module named {spec.name!r}: another backend runs in this process", name=spec.name)

    def exec_module(self, module):
        """Never reached; the import system asks for it."""


@contextlib.contextmanager
def _quiet():
    """Hold back what native code writes to standard error (TensorFlow's start-up lines); shown only on a failure."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
