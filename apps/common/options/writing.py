"""Options of tasks that read a text and write another: translations, summaries."""

from dataclasses import dataclass
from typing import Literal

from apps.common.errors import UserError
from apps.common.options.declare import option, refused
from apps.common.options.training import Splitting


@dataclass(frozen=True)
class Writing(Splitting):
    """What such a run has besides its model and its lengths; an app has `model`, `width` and, for a Transformer, `num_heads`."""

    lowercase: bool = option(False, "small letters alone, in training and scores")
    dropout: float = option(0.1, "share of units dropped in training", low=0, high=0.95, search=(0.0, 0.5))
    beam_width: int = option(4, "beams with which the test is written; 1 is greedy", low=1, high=64)
    length_penalty: float = option(0.6, "favours longer beams; 0 is off", low=0, high=10)
    batch_size: int = option(32, "examples a step", low=1, high=65_536, search=(16, 32, 64, 128))
    schedule: Literal["constant", "cosine", "step", "exponential", "one-cycle", "plateau"] = option(
        "one-cycle", "how the learning rate changes over the run", search=("constant", "cosine", "one-cycle")
    )
    clip_norm: float | None = option(1.0, "largest norm of the whole gradient", above=0)
    class_weights: str = refused("none", "every token counts as often as it occurs")
    num_heads: int = option(4, "attention heads; must divide the width", low=1, needs={"model": "transformer"})

    def check(self):
        super().check()
        if self.model == "transformer" and (self.width % self.num_heads or self.width % 2):
            raise UserError(f"--width {self.width}: expected an even number, a multiple of --num-heads {self.num_heads}")


@dataclass(frozen=True)
class WritingOptions:
    """Options of `predict`."""

    beam_width: int = option(4, "texts kept in view for each; 1 takes the likeliest token each time", low=1, high=64)
    length_penalty: float = option(0.6, "favours longer texts; 0 is off", low=0, high=10)
    max_length: int | None = option(None, "tokens written at most (default: half as many again as in training)", low=1)
