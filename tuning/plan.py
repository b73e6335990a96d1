"""What a search is asked to do."""

import dataclasses

SEARCHES = ("random", "hyperband", "bayesian", "grid", "evolution")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a search is asked to do, checked already.

    Args:
        search: One of `SEARCHES`.
        space: The `tuning.space.Space`.
        trials: At most this many, or `None`.
        epochs: Epochs of a trial of full length.
        final: Whether the best configuration is trained at full length, evaluated on test and registered.
        workers: Trials side by side on this machine; 0 runs them in this process.
        chief: `(host, port)` at which workers on other machines may join, or `None`.
    """

    search: str
    space: object
    trials: int | None
    epochs: int
    final: bool = True
    workers: int = 0
    chief: tuple | None = None
