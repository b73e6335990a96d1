"""Numbers that stand for a time or a text: parts of the calendar, and hashed words."""

import numpy as np

# Months, weekdays and hours also on a circle, where December lies beside January.
TIME_PARTS = ("days", "year", "month", "month_sin", "month_cos", "weekday", "weekday_sin", "weekday_cos", "hour", "hour_sin",
              "hour_cos")  # fmt: skip
DAY = 86_400
CALENDAR = {  # the number of each of so many seconds, and where it begins anew
    "year": (lambda seconds: _months(seconds) // 12 + 1970, 1),
    "month": (lambda seconds: _months(seconds) % 12 + 1, 12),
    "weekday": (lambda seconds: (np.floor(seconds / DAY) + 3) % 7, 7),  # the first of January 1970 was a Thursday
    "hour": (lambda seconds: seconds % DAY / 3600, 24),
}
FARTHEST = 1e11  # seconds: the year 5138
TEXT_BUCKETS = 128


def time_part(seconds, part, start):
    """One number of each time.

    Args:
        seconds: Since 1970, NaN where missing.
        part: One of `TIME_PARTS`.
        start: Seconds from which `days` counts.
    """
    there = ~np.isnan(seconds)
    known = np.clip(np.where(there, seconds, 0.0), -FARTHEST, FARTHEST)
    if part == "days":
        values = (known - start) / DAY
    else:
        unit, _, circle = part.partition("_")
        make, length = CALENDAR[unit]
        values = make(known)
        if circle:
            values = {"sin": np.sin, "cos": np.cos}[circle](2 * np.pi * values / length)
    return np.where(there, values, np.nan)


def _months(seconds):
    """Whole months since 1970, looked up among those of all days there are."""
    days = np.floor(seconds / DAY).astype(np.int32)
    if not len(days):
        return days
    calendar = np.arange(days.min(), days.max() + 1).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return calendar[days - days.min()]


def hashed_words(texts):
    """Counts of hashed words, of length one a row, as float32 `(rows, TEXT_BUCKETS)`; all zero for a missing text."""
    from sklearn.feature_extraction.text import HashingVectorizer

    hashing = HashingVectorizer(n_features=TEXT_BUCKETS, dtype=np.float32)
    return hashing.transform(["" if text is None or text != text else text for text in texts]).toarray()
