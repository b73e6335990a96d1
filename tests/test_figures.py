"""Figures: what a user's own words are in them."""

import warnings

import numpy as np
import pytest

from apps.common import figures

pytestmark = pytest.mark.once


def test_a_dollar_in_a_name_is_no_mathematics_and_a_power_of_ten_is(tmp_path):
    names = ["$", "$$", "($#$)", "\u4e2d"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.save(figures.confusion(np.eye(4), names), tmp_path / "names.png")
    figure, axis = figures.new()
    axis.semilogx([1, 1000], [0, 1])
    axis.set_title("$x$ and $$")
    figures.save(figure, tmp_path / "powers.png")
    assert not axis.title.get_parse_math() and axis.get_xticklabels()[0].get_parse_math()
    assert (tmp_path / "names.png").stat().st_size > 1000
