"""The cell network: its wiring is what its text says."""

import keras
import numpy as np
import pytest

from layers import models

pytestmark = pytest.mark.once  # agreement of the backends and the contract carry it to the others

IMAGES = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")


def network(cell, **options):
    return models.cell_network((8, 8, 3), 3, cell=cell, width=4, stages=1, **options)


def test_nodes_that_nobody_reads_are_what_a_cell_gives():
    def inputs_of_the_last(cell):
        joined = [layer for layer in network(cell).layers if isinstance(layer, keras.layers.Concatenate)]
        return joined[0].output.shape[-1] if joined else 4

    assert inputs_of_the_last("conv3,0,identity,0,conv3,1,max3,0") == 4  # node 1 is read by node 2
    assert inputs_of_the_last("conv3,0,identity,0,conv3,0,max3,0") == 8
    assert inputs_of_the_last("conv3,0,identity,0,conv3,0,max3,0,conv1,0,conv1,0") == 12


def test_identities_add_up():
    # Two nodes, each the sum of what it reads twice: the second is four times the cell's input.
    cell = network("identity,0,identity,0,identity,1,identity,1")
    adds = [layer for layer in cell.layers if isinstance(layer, keras.layers.Add)]
    nodes = keras.Model(cell.input, [adds[0].output, adds[1].output, adds[0].input[0]])
    first, second, source = (keras.ops.convert_to_numpy(each) for each in nodes(IMAGES))
    np.testing.assert_allclose(first, 2 * source, rtol=1e-6)
    np.testing.assert_allclose(second, 4 * source, rtol=1e-6)


def test_operations_have_the_weights_they_should():
    def weights(operation):
        return network(f"{operation},0,identity,0").count_params() - network("identity,0,identity,0").count_params()

    norm = 4 * 4
    assert weights("conv3") == 3 * 3 * 4 * 4 + norm and weights("conv1") == 4 * 4 + norm
    assert weights("separable3") == 3 * 3 * 4 + 4 * 4 + norm
    assert weights("max3") == weights("average3") == 0


@pytest.mark.parametrize(
    ("cell", "told"),
    [("conv3,0", "for each node"), ("", "for each node"), ("conv9,0,conv3,0", "'conv9'"), ("conv3,1,conv3,0", "from 0 to 0")],
)
def test_a_cell_that_cannot_be_is_named(cell, told):
    with pytest.raises(ValueError, match=told):
        network(cell)
