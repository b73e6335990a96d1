"""One try of the faults that need a run: the short form of `python -m bench.faults`, one server of runs for all."""

import os

import pytest

from bench.faults.common import Place
from bench.faults.run import FAULTS

# What is not here is tried by other tests (damaged bundles and checkpoints, the port, the readers) or takes minutes.
SHORT = (
    "NaN loss after some epochs",
    "out of memory",
)
ONCE = (
    "SIGTERM",
    "kill -9 in a checkpoint write",
    "kill -9 in a bundle write",
    "kill -9 in an MLflow write",
    "MLflow frozen",
    "data changed before a resume",
)
BY_NAME = {fault.name: fault for fault in FAULTS}


@pytest.fixture(scope="module")
def place():
    made = Place(os.environ["KERAS_BACKEND"], most_kills=1)
    yield made
    made.close()


@pytest.mark.parametrize("name", [*SHORT, *(pytest.param(name, marks=pytest.mark.once) for name in ONCE)])
def test_it_is_survived(place, name):
    BY_NAME[name].ours(place, 0)


@pytest.mark.once
@pytest.mark.parametrize("name", ["a compressed HDF5 bomb", "a layer of 40 GB", "HDF5 groups in a circle"])
def test_a_hostile_model_is_refused_and_takes_no_memory(place, name):
    BY_NAME[f"model: {name}"].ours(place, 0)
