"""The network that judges generated pictures: by their classes, or word for word by their captions."""

from apps.common.data.images.captioned import encode
from apps.common.reports.captions_found import CaptionJudge
from apps.common.reports.generated_images import Judge

MOST_WORDS = 10_000  # outputs of a network that tells a word at each place of a caption

_kept = []


def judge_of(data):
    """The `Judge` of these data, trained once in a process."""
    if not _kept or _kept[0] is not data.train.x:
        _kept[:] = data.train.x, made_judge(data)
    return _kept[1]


def made_judge(data):
    names, about = data.about["class_names"], data.about
    if about.get("captions") and (len(about["words"]) + 2) * about["length"] <= MOST_WORDS:
        return CaptionJudge(data.train, encode(names, about["words"], about["length"]), len(about["words"]) + 2)
    return Judge(data.train, len(names))
