"""The time that is left of a run."""

import pytest

from apps.common.training.progress import Pace


@pytest.mark.once
def test_the_time_left_follows_from_steps_that_were_not_compiled():
    pace, now = Pace(shapes=2), 0.0
    pace.epoch_begins(now)
    for seconds in (20.0, 1.0, 30.0):  # of the steps of the first epoch, two of which are compiled
        pace.step_begins(now)
        now += seconds
    assert pace.seconds(10, 1) is None, "two of three steps say nothing of the next ones"
    for seconds in (1.0, 1.0, 1.0):
        pace.step_begins(now)
        now += seconds
    assert pace.seconds(10, 1) == pytest.approx(10.0)
    now += 40.0  # validation, compiled
    pace.epoch_begins(now)
    pace.step_begins(now)
    assert pace.seconds(10, 1) == pytest.approx(10.0)
    pace.epoch_begins(now + 3.0)  # a step and a validation
    assert pace.seconds(10, 2) == pytest.approx(16.0)
