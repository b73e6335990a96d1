"""The command line's door: what it refuses before any backend is imported, in one line, at once."""

import contextlib
import json
import platform
import resource
import socket
import subprocess
import sys
import time
import urllib.request
from types import SimpleNamespace

import pytest
from runs import HOUSE, command, environment, triptych

from apps.common.data.ahead import data_of, read_ahead

pytestmark = pytest.mark.once  # nothing in it depends on the backend


def refused(*arguments, cwd, **environment):
    done = triptych(*arguments, cwd=cwd, check=2, **environment)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and done.stdout == "", done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("trian", "tabular"), "Did you mean 'train'?"),
        (("train", "tabluar"), "Did you mean 'tabular'?"),
        (("train",), "expected one TASK"),
        (("train", "tabular", "--epochs", "-1"), "--epochs: expected a whole number at least 1"),
        (("train", "tabular", "--epochs"), "a value is missing"),
        (("train", "tabular", "--epcohs=3"), "Did you mean '--epochs'?"),
        (("train", "tabular", "--backend", "jaxx"), "Did you mean 'jax'?"),
        (("train", "super-resolution", "--factor", "5"), "--factor: expected one of 2, 3, 4"),
        (("train", "tabular", "--recipe", "adult-mpl"), "Did you mean 'adult-mlp'?"),
        (("train", "tabular", "--data", "./nothing.csv"), "no such file"),
        (("train", "tabular", "--resume", "last"), "no run of tabular"),
        (("train", "image-classification", "--augment", "flop"), "Did you mean 'flip'?"),
        (("train", "image-classification", "--model", "mlp", "--depth", "3"), "--depth does nothing with --model mlp"),
        (("train", "tabular", "--width", "30", "--model", "ft-transformer"), "multiple of --num-heads 8"),
        (("predict",), "expected MODEL"),
        (("predict", "nowhere", "x.png"), "no bundle folder"),
        (("evaluate", "."), "no bundle.json"),
        (("reproduce", "fashion-mpl"), "Did you mean 'fashion-mlp'?"),
        (("compare", "--limit", "x"), "--limit: expected a whole number"),
        (("matrix", "--out", "nowhere/m.md"), "the folder nowhere is not there"),
        (("export", "x"), "expected MODEL --format"),
        (("ui", "--prot", "5"), "Did you mean '--port'?"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(arguments, words, tmp_path):
    assert words in refused(*arguments, cwd=tmp_path)
    assert not (tmp_path / "mlruns").exists()


def test_no_command_that_takes_a_model_imports_keras_before_its_backend_is_chosen(tmp_path):
    code = (
        "import contextlib, sys, triptych\n"
        "for command in (triptych.command_evaluate, triptych.command_predict, triptych.command_export):\n"
        "    with contextlib.suppress(triptych.UserError):\n"
        "        command(['nowhere', 'x'], {'format': 'onnx', 'output': 'x.csv'}, False)\n"
        "print('keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), cwd=tmp_path, stdout=subprocess.PIPE, check=True)
    assert done.stdout.strip() == b"False"


def test_a_backend_that_is_not_installed_is_named_with_the_command_that_installs_it(tmp_path):
    code = (
        "import importlib.util as u, sys; real = u.find_spec;"
        "u.find_spec = lambda name, *rest: None if name == 'torch' else real(name, *rest);"
        "import triptych; sys.exit(triptych.main(['train', 'tabular', '--backend', 'torch']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=HOUSE, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "pip install -e '.[torch]'" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("--help",), ("list",), ("train", "tabular", "--help"), ("train", "tabular", "--epocs", "1")]
)
def test_the_door_imports_no_backend_and_no_tracker(arguments, tmp_path):
    code = (
        f"import sys, triptych; triptych.main({list(arguments)!r});"
        "heavy = {'keras', 'tensorflow', 'jax', 'torch', 'mlflow', 'pandas', 'sklearn'} & set(sys.modules);"
        "print('heavy:', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=HOUSE, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_list_names_tasks_architectures_and_recipes(tmp_path):
    rows = json.loads(triptych("list", "--json", cwd=tmp_path).stdout)["rows"]
    found = {(row["kind"], row["name"]) for row in rows}
    assert {("task", "tabular"), ("architecture", "resnet"), ("recipe", "adult-mlp")} <= found
    assert all(row["about"] for row in rows)


def test_help_of_a_task_shows_every_option_with_its_default(tmp_path):
    shown = triptych("train", "image-classification", "--help", cwd=tmp_path).stdout
    assert "--learning-rate" in shown and "[0.001]" in shown and "fashion-small-cnn" in shown


def test_the_ui_refuses_a_port_in_use(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "in use already" in refused("ui", "--port", taken.getsockname()[1], cwd=tmp_path)


def test_an_app_run_as_a_module_is_the_same_door(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "apps.tabular", "--epochs", "x"], cwd=HOUSE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and done.stderr.startswith("triptych: --epochs")


def test_a_process_begins_anew_with_its_number_its_command_and_the_backend_it_had():
    code = """
import os, sys
from apps.common.training.renewal import renew
print(os.getpid(), *sys.argv[1:])
if "KERAS_BACKEND" not in os.environ:
    os.environ["KERAS_BACKEND"] = "jax"
    renew()
"""
    variables = {name: value for name, value in environment().items() if name != "KERAS_BACKEND"}
    words = [sys.executable, "-c", code, "tune", "--backend=auto"]
    first, second = subprocess.run(words, env=variables, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    assert first.endswith(" tune --backend=auto") and second == f"{first} --backend jax"


def test_the_ui_answers_on_loopback_and_leaves_its_port_when_it_is_ended(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    child = subprocess.Popen(command("ui", "--port", port), cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                assert answer.status == 200
                break
            time.sleep(0.1)
        else:
            pytest.fail("the UI does not answer within a minute")
    finally:
        child.terminate()
    assert child.wait(60) == 143
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other ways with memory")
def test_freed_memory_is_kept_unless_the_user_says_otherwise():
    """A block larger than glibc ever keeps by itself is cleared by the kernel page by page, anew each time."""
    code = """
import resource
from apps.common.options.backends import keep_freed_memory
keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    bytes(1) * (40 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

    def faults(**given):
        variables = {name: value for name, value in environment().items() if not name.startswith(("MALLOC", "GLIBC"))}
        done = subprocess.run([sys.executable, "-c", code], env={**variables, **given}, stdout=subprocess.PIPE, check=True)
        return int(done.stdout)

    assert faults() < faults(MALLOC_ARENA_MAX="1") / 3


def test_the_door_opens_quickly(tmp_path):
    """A generous bound, of processor time on a shared machine: a backend takes seconds to import, the door a fraction of one."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command("list"), cwd=tmp_path, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 1.5


LEAVING = """
import atexit, sys
from apps.common.command import run_and_leave

class Slow:
    def __del__(self):
        print("freed", flush=True)

kept = Slow()
atexit.register(lambda: print("before", flush=True))

def command():
    atexit.register(lambda: print("registered", flush=True))
    print("done")
    if {fails}:
        raise RuntimeError("a fault of ours")
    return {code}

run_and_leave(command)
"""


@pytest.mark.once
@pytest.mark.parametrize(("code", "found"), [(0, 0), (2, 2), (None, 0), ("'words'", 1)])
def test_a_command_leaves_with_its_code_once_what_was_registered_is_done(code, found):
    done = subprocess.run(
        [sys.executable, "-c", LEAVING.format(code=code, fails=False)], cwd=HOUSE, capture_output=True, text=True, check=False
    )
    assert done.returncode == found and "freed" not in done.stdout
    assert done.stdout.split() == ["done", "registered"] or done.stdout.split() == ["done", "registered", "before"]


@pytest.mark.once
def test_a_fault_of_ours_keeps_its_traceback_and_its_code():
    code = LEAVING.format(code=0, fails=True)
    done = subprocess.run([sys.executable, "-c", code], cwd=HOUSE, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "a fault of ours" in done.stderr


@pytest.mark.once
def test_what_is_wrong_with_the_data_is_said_before_a_backend_is_imported(tmp_path):
    (tmp_path / "empty.csv").write_text("")
    code = "import sys, triptych; code = triptych.main(sys.argv[1:]); print('keras' in sys.modules, code)"
    words = ("train", "tabular", "--data", "empty.csv")
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["False", "2"] and done.stderr.count("\n") == 1


def test_data_that_were_read_ahead_are_taken_once_and_only_for_their_run():
    read = []
    app = SimpleNamespace(load_data=lambda config: read.append(config) or SimpleNamespace(notes=[]))
    read_ahead(app, "a")
    assert data_of(app, "a")[1] and read == ["a"], "read once, its notes said"
    assert not data_of(app, "a")[1] and read == ["a", "a"]
    read_ahead(app, "a")
    assert not data_of(app, "b")[1] and read == ["a", "a", "a", "b"], "another run reads its own"
