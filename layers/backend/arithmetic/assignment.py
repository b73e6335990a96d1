"""The best one-to-one assignment by `keras.ops`, with static shapes."""

import keras

ops = keras.ops

FAR = 1e9  # more than any way through the costs


def assign(costs):
    """`(batch, rows, columns)` to the column of each row, `(batch, rows)`: Jonker and Volgenant's shortest augmenting paths.

    The rows come one after the other, and each finds the cheapest way to a free column over those that others have. All
    matrices of the batch go together, each search as long as the longest of them.
    """
    _, rows, columns = ops.shape(costs)
    row_places, places = (ops.expand_dims(ops.arange(size, dtype="int32"), 0) for size in (rows, columns))
    start_of_row = ops.zeros_like(costs[:, :, 0])
    start_of_column = ops.zeros_like(costs[:, 0, :])
    nobody = ops.cast(start_of_column, "int32") - 1

    def add_row(row, state):
        """Give one more row a column, moving others along the cheapest path."""
        u, v, owner = state  # potentials of rows and columns; the row each column belongs to
        here = ops.zeros_like(owner[:, :1]) + row

        def look(here, here_distance, distance, before, reached, row_distance, end):
            """Dijkstra's step: take the nearest column not yet reached; a search that is over stays as it is."""
            searching = ops.less(end, 0)
            slack = ops.take_along_axis(costs, ops.expand_dims(here, -1), axis=1)[:, 0] - v
            slack = slack - ops.take_along_axis(u, here, axis=1) + here_distance
            better = ops.logical_and(ops.logical_and(slack < distance, ops.logical_not(reached)), searching)
            distance, before = ops.where(better, slack, distance), ops.where(better, here, before)
            open_distance = ops.where(reached, FAR, distance)
            nearest = ops.cast(ops.argmin(open_distance, axis=1, keepdims=True), "int32")
            nearest_distance = ops.min(open_distance, axis=1, keepdims=True)
            found = ops.take_along_axis(owner, nearest, axis=1)
            end = ops.where(ops.logical_and(searching, ops.less(found, 0)), nearest, end)
            goes_on = ops.less(end, 0)
            reached = ops.logical_or(reached, ops.logical_and(ops.equal(places, nearest), goes_on))
            moves = ops.logical_and(ops.equal(row_places, found), goes_on)
            row_distance = ops.where(moves, nearest_distance, row_distance)
            here = ops.where(goes_on, found, here)
            here_distance = ops.where(searching, nearest_distance, here_distance)
            return here, here_distance, distance, before, reached, row_distance, end

        row_distance = ops.where(ops.equal(row_places, row), 0.0, start_of_row + FAR)
        nothing = ops.cast(ops.zeros_like(owner), "bool")
        zero = ops.zeros_like(start_of_column[:, :1])
        state = (here, zero, start_of_column + FAR, nobody, nothing, row_distance, here * 0 - 1)
        state = ops.while_loop(lambda *state: ops.any(state[-1] < 0), look, state)
        _, length, distance, before, reached, row_distance, end = state
        u = u + ops.where(row_distance < FAR, length - row_distance, 0.0)
        v = v + ops.where(reached, distance - length, 0.0)

        def hand_over(owner, end):
            """Walk the path back; each column on it goes to the row it was reached from."""
            walking = ops.greater_equal(end, 0)
            taker = ops.take_along_axis(before, ops.maximum(end, 0), axis=1)
            previous = ops.cast(ops.equal(owner_before, taker), "int32") * (places + 1)
            owner = ops.where(ops.logical_and(ops.equal(places, end), walking), taker, owner)
            # The new row had no column: the path ends there, where no column is found.
            end = ops.where(walking, ops.max(previous, axis=1, keepdims=True) - 1, -1)
            return owner, end

        owner_before = owner
        owner, _ = ops.while_loop(lambda _, end: ops.any(end >= 0), hand_over, (owner, end))
        return u, v, owner

    _, _, owner = ops.fori_loop(0, rows, add_row, (start_of_row, start_of_column, nobody))
    taken = ops.equal(ops.expand_dims(row_places, -1), ops.expand_dims(owner, 1))  # (batch, rows, columns)
    return ops.cast(ops.argmax(ops.cast(taken, "int32"), axis=-1), "int32")
