"""Run every test on every installed backend, one process a backend and part, then hold the backends against one another.

`python tests/matrix.py` is `make test`; with `everything` each app goes through every check on every backend (`make test-all`);
with `changed` what the working tree's changes touch runs on one backend (`make check`). What is marked `once` depends on no
backend and runs on one; `tests/test_parity.py` runs last, over what the other processes recorded.
"""

import os
import re
import resource
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

# Compiling is most of what these small models take on JAX: without fused kernels it takes half of the processor time.
XLA_FLAGS = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
# The parts of a backend's tests, the longest first; so many that none is left to run alone at the end.
PARTS = ("apps", "layers and models", "what is left")
FAULTS = []
EXCHANGED = "test_parity.py::test_what_another_backend_wrote_predicts_and_goes_on_the_same"


def run(name, files, *arguments, **environment):
    """One pytest process; returns `(passed, failed, skipped)` and remembers in `FAULTS` which tests failed."""
    start = time.monotonic()
    cache = HOUSE / ".cache"
    cache.mkdir(exist_ok=True, mode=0o700)
    variables = {
        **os.environ,
        "TRIPTYCH_PARITY": str(cache / "parity"),
        "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "XLA_FLAGS": XLA_FLAGS,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    (cache / "jax").mkdir(exist_ok=True, mode=0o700)
    command = [sys.executable, "-m", "pytest", "-rfEs", "--durations=12", *arguments, *(str(TESTS / file) for file in files)]
    done = subprocess.run(command, cwd=HOUSE, env=variables, stdout=subprocess.PIPE, text=True, check=False)
    print(f"== {name}: {time.monotonic() - start:.0f} s\n{done.stdout}", flush=True)
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)}
    FAULTS.extend(f"{line} ({name})" for line in re.findall(r"^(?:FAILED|ERROR) .*", done.stdout, re.MULTILINE))
    nothing = done.returncode == 5 and not counts  # pytest's word for a part in which every test is marked otherwise
    failed = counts.get("failed", 0) + counts.get("error", 0) or (1 if done.returncode and not nothing else 0)
    return counts.get("passed", 0), failed, counts.get("skipped", 0)


def main(mode=""):
    backends, start = installed(), time.monotonic()
    lint = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=HOUSE, check=False)
    if mode == "changed":
        files = touched()
        print(f"touched: {', '.join(files) or 'no test'}", flush=True)
        counts = [run(backends[-1], files, KERAS_BACKEND=backends[-1])] if files else []
    else:
        counts = everywhere(backends, {"TRIPTYCH_EVERYTHING": "1"} if mode == "everything" else {})
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    minutes = (used.ru_utime + used.ru_stime) / 60
    for fault in FAULTS:  # once more at the end, where a long log is read first
        print(fault)
    print(f"{(time.monotonic() - start) / 60:.1f} minutes, {minutes:.1f} of processor time")
    passed, failed, skipped = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0, 0)
    failed += bool(lint.returncode)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return bool(failed)


def everywhere(backends, environment):
    """Every test on every backend, two processes at a time; each computes on one thread, so they share two cores well."""
    shutil.rmtree(HOUSE / ".cache" / "parity", ignore_errors=True)
    files = sorted(path.name for path in TESTS.glob("test_*.py") if path.name != "test_parity.py")
    longest = ("test_contract.py", "test_cases.py")  # a part each, and begun first
    files.sort(key=lambda name: longest.index(name) if name in longest else len(longest))
    parts = [(name, files[part :: len(PARTS)], "not once") for part, name in enumerate(PARTS)]
    parts.insert(2, ("once", files, "once"))
    with ThreadPoolExecutor(2) as pool:
        jobs = []
        for part, chosen, mark in parts:
            for backend in backends if mark != "once" else backends[-1:]:
                name = f"{part}, on {backend}"
                jobs.append(pool.submit(run, name, chosen, "-m", mark, KERAS_BACKEND=backend, **environment))
        counts = [job.result() for job in jobs]
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(run, "parity", ["test_parity.py"], KERAS_BACKEND=backends[0])]
        jobs += [pool.submit(run, f"parity on {name}", [EXCHANGED], KERAS_BACKEND=name) for name in backends[1:]]
        return counts + [job.result() for job in jobs]


def touched():
    """The test files that changed, and those that name a module that did."""
    listed = subprocess.run(["git", "status", "--porcelain", "-uall"], cwd=HOUSE, capture_output=True, text=True, check=False)
    ahead = subprocess.run(["git", "diff", "--name-only", "HEAD~1"], cwd=HOUSE, capture_output=True, text=True, check=False)
    names = [line[3:].rpartition(" -> ")[2] for line in listed.stdout.splitlines()] or ahead.stdout.splitlines()
    words = {Path(name).stem for name in names if name.endswith(".py") and not name.startswith("tests/")}
    chosen = {Path(name).name for name in names if re.fullmatch(r"tests/test_\w+\.py", name)}
    for path in TESTS.glob("test_*.py"):
        named = set(re.findall(r"\w+", "\n".join(re.findall(r"^\s*(?:from|import) .*", path.read_text(), re.MULTILINE))))
        if named & words:
            chosen.add(path.name)
    return sorted({*chosen, "test_house.py"} - {"test_parity.py"} if names else chosen)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
