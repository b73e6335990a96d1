"""Run every test on every installed backend, one process a backend, then hold the backends against one another.

Tests that need no backend (file readers, options, the front door) run once; `tests/test_parity.py` runs last, over what
the other processes recorded.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TESTS = Path(__file__).resolve().parent
HOUSE = TESTS.parent
sys.path.insert(0, str(HOUSE))

from apps.common.options.backends import installed  # noqa: E402

WITHOUT_BACKEND = [
    "test_options.py", "test_images.py", "test_bad_images.py", "test_tables.py", "test_table_encoding.py",
    "test_front_door.py", "test_house.py", "test_fault_parts.py", "test_compare.py", "test_tuning_oracles.py",
    "test_tuning_space.py", "test_tuning_postgres.py",
]  # fmt: skip


def run(name, files, *arguments, **environment):
    """One pytest process; returns `(passed, failed, skipped)`."""
    start = time.monotonic()
    cache = HOUSE / ".cache"
    cache.mkdir(exist_ok=True, mode=0o700)
    variables = {
        **os.environ,
        "TRIPTYCH_PARITY": str(cache / "parity"),
        "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiling is most of what these small models take
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    (cache / "jax").mkdir(exist_ok=True, mode=0o700)
    command = [sys.executable, "-m", "pytest", "-rs", "--durations=12", *arguments, *(str(TESTS / file) for file in files)]
    done = subprocess.run(command, cwd=HOUSE, env=variables, stdout=subprocess.PIPE, text=True, check=False)
    print(f"== {name}: {time.monotonic() - start:.0f} s\n{done.stdout}", flush=True)
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)}
    failed = counts.get("failed", 0) + counts.get("error", 0) or (1 if done.returncode else 0)
    return counts.get("passed", 0), failed, counts.get("skipped", 0)


def main():
    backends = installed()
    shutil.rmtree(HOUSE / ".cache" / "parity", ignore_errors=True)
    everything = sorted(path.name for path in TESTS.glob("test_*.py"))
    each = [name for name in everything if name not in (*WITHOUT_BACKEND, "test_parity.py")]
    lint = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=HOUSE, check=False)
    # Each process computes on one thread, so two of them share two cores well; the slowest start first, in halves so that
    # none is left to run alone at the end.
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(run, f"{backend} {half + 1}/2", each[half::2], "-m", "not once", KERAS_BACKEND=backend)
            for backend in backends
            for half in range(2)
        ]
        jobs.append(pool.submit(run, f"once, on {backends[-1]}", each, "-m", "once", KERAS_BACKEND=backends[-1]))
        jobs.append(pool.submit(run, "no backend", [name for name in WITHOUT_BACKEND if name in everything]))
        counts = [job.result() for job in jobs]
    exchanged = "test_parity.py::test_what_another_backend_wrote_predicts_and_goes_on_the_same"
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(run, "parity", ["test_parity.py"], KERAS_BACKEND=backends[0])]
        jobs += [pool.submit(run, f"parity on {name}", [exchanged], KERAS_BACKEND=name) for name in backends[1:]]
        counts += [job.result() for job in jobs]
    passed, failed, skipped = (sum(column) for column in zip(*counts, strict=True))
    failed += bool(lint.returncode)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
