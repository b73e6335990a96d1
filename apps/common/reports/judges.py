"""The network that judges generated pictures: by their classes, or word for word by their captions."""

from apps.common.data.images.captioned import encode
from apps.common.reports.cached import cached_by_data
from apps.common.reports.captions_found import CaptionJudge
from apps.common.reports.generated_images import Judge

MOST_WORDS = 10_000  # outputs of a network that tells a word at each place of a caption


@cached_by_data
def judge_of(data):
    """The `Judge` of these data, trained on them."""
    names, about = data.about["class_names"], data.about
    if about.get("captions") and (len(about["words"]) + 2) * about["length"] <= MOST_WORDS:
        return CaptionJudge(data.train, encode(names, about["words"], about["length"]), len(about["words"]) + 2)
    return Judge(data.train, len(names))
