"""Pictures of how a car is steered."""

import numpy as np

from apps.common import figures


def over_time(true, found):
    """The true angle and ours along the pictures of a drive, and the error of each below."""
    figure, (above, below) = figures.new(9.0, 4.5, 2, 1)
    steps = np.arange(len(true))
    above.plot(steps, true, color="0.3", linewidth=1.0, label="driver")
    above.plot(steps, found, color="tab:red", linewidth=1.0, label="model")
    above.set(ylabel="angle", title="angle over time")
    above.legend(frameon=False, ncols=2)
    below.plot(steps, found - true, color="tab:blue", linewidth=0.8)
    below.axhline(0, color="0.5", linewidth=0.6)
    below.set(xlabel="picture", ylabel="model - driver")
    for axis in (above, below):
        axis.grid(alpha=0.3)
    return figure
