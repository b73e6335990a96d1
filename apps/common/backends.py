"""Which backend a command runs on, settled before any is imported."""

import importlib.util
import os

from apps.common.errors import UserError, nearest

BACKENDS = ("tensorflow", "jax", "torch")


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
    """Set the environment of this process for the backend, before it is imported."""
    os.environ["KERAS_BACKEND"] = name
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "3")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "triptych", "jax")
        try:
            # Whoever can write here can run code, so the folder is private.
            os.makedirs(cache, mode=0o700, exist_ok=True)
        except OSError:
            return
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
