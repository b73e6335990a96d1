"""What the columns of a table are, found from their cells: numbers, categories, times, texts, or nothing to learn from.

A role is plain JSON, kept with a model so that later cells are read as those of the training: `{"role": "number"}` with
`decimal`, the mark before its fractions where cells are not plain numbers; `{"role": "time"}` with its `format`;
`category`, `boolean`, `text`; and what a model gets nothing of: `identifier`, `constant`, `empty`, `ignore`.
"""

import contextlib
import re

import numpy as np

from apps.common.data.tables.rows import MISSING

ROLES = {
    "number": "numbers", "category": "categories", "boolean": "yes or no", "time": "dates or times",
    "text": "free text, as hashed words", "identifier": "left out, a name or number of each row",
    "constant": "left out, constant",
    "empty": "left out, without any value", "ignore": "left out, as asked",
}  # fmt: skip
LEFT_OUT = ("identifier", "constant", "empty", "ignore")
# What --columns NAME=ROLE may say.
GIVEN_ROLES = ("number", "category", "boolean", "time", "text", "ignore")
BOOLEANS = ({"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"}, {"on", "off"})
CODES = re.compile(
    r"(^|[^a-z])(zip|zip_?code|postal|postcode|plz|phone|mobile|fax|tel|ssn|fips|ean|isbn|sku|barcode)([^a-z]|$)"
)
IDENTIFIERS = re.compile(r"(^|[^a-z])(id|ids|uuid|guid|key|index|idx|row|rowid|number|no|nr|serial)([^a-z]|$)|[a-z]id$")
FEWEST_IDENTIFIERS = 20  # rows that must all differ before a column names them
LONG_NUMBER = 15  # digits that a number in double precision cannot tell apart
SAMPLE = 200
PARSED_AT_ONCE = 100_000  # cells that are Python's texts for a moment
ALMOST = 0.05
SEVERAL_WORDS, TEXT_WORDS = 2, 4
DATES = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%d/%m/%y", "%m/%d/%y", "%d.%m.%y",
         "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y")  # fmt: skip
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
OTHER_TIMES = ("%H:%M", "%H:%M:%S", "%I:%M %p", "%a %b %d %H:%M:%S %Y", "%Y%m%dT%H%M%S")
PLAIN = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"
MONEY = r"(?:US\$|C\$|A\$|[$€£¥₹]|USD|EUR|GBP|CHF|JPY|INR)"
THOUSANDS = {
    ".": r"^[-+]?\d{1,3}(,\d{3})+(\.\d+)?$|" + PLAIN,
    ",": r"^[-+]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?$",
}


class WrongCell(Exception):
    """A cell that its column's role cannot take: the position of its row, the cell, and what was expected."""

    def __init__(self, row, cell, expected):
        super().__init__(row, cell, expected)
        self.row, self.cell, self.expected = row, cell, expected


def read_column(name, texts, role=None, *, comma=False):
    """One column of cells as values.

    Args:
        name: The column's name, which may hint at codes and identifiers.
        texts: pyarrow array of text, dictionary-encoded or not, or of numbers with fractions.
        role: Of the column where it is known already; `{"role": "target"}` keeps every text, words for missing values too.
        comma: Whether `1,5` is one and a half where nothing else tells.
    Returns: `(values, role, almost)`: float64 with NaN, an object array of text and `None`, or `None` for text that is left
        out; `almost` is `(cells, of how many, row of the first, cell)` where a few cells are not as all others.
    Raises:
        WrongCell: A cell is not of the role given.
    """
    import pyarrow

    if pyarrow.types.is_floating(texts.type):
        values = np.require(texts.to_numpy(), requirements="W")
        return values, role or {"role": "constant" if (values == values[0]).all() else "number"}, None
    if pyarrow.types.is_timestamp(texts.type):
        times = texts.to_numpy()
        values = np.where(np.isnat(times), np.nan, times.astype(np.int64) / 1e6)
        same = role is None and (values == values[0]).all()
        return (None, {"role": "constant"}, None) if same else (values, role or {"role": "time", "format": "ISO8601"}, None)
    codes, distinct = distinct_cells(texts, () if role and role["role"] == "target" else MISSING)
    if role is None:
        role, parsed, almost = _found_role(name, codes, distinct, comma)
    else:
        role, parsed, almost = *_as_role(role, codes, distinct, comma), None
    kind = role["role"]
    if kind in ("number", "time") or (parsed is not None and kind in LEFT_OUT):
        return np.append(parsed, np.nan)[codes], role, almost
    if kind in LEFT_OUT:
        return None, role, almost
    return np.array([*distinct.to_pylist(), None], dtype=object)[codes], role, almost


def distinct_cells(texts, missing=MISSING):
    """`(codes, distinct cells)`, stripped, in the order they are met; the code of a missing cell is -1."""
    import pyarrow
    import pyarrow.compute as compute

    if isinstance(texts, pyarrow.ChunkedArray):
        # Together first, since the words of many pieces are slow to unite. More than 2 GB need longer offsets.
        texts = (texts if texts.nbytes < 1 << 31 else texts.cast(pyarrow.large_string())).combine_chunks()
        texts = pyarrow.concat_arrays(texts.chunks) if isinstance(texts, pyarrow.ChunkedArray) else texts
    encoded = texts if isinstance(texts, pyarrow.DictionaryArray) else texts.dictionary_encode()
    del texts
    codes, distinct = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False), encoded.dictionary
    del encoded
    pieces = [distinct.slice(start, PARSED_AT_ONCE) for start in range(0, len(distinct), PARSED_AT_ONCE)]
    if not all(compute.utf8_trim_whitespace(piece).equals(piece) for piece in pieces):  # cells that are now the same become one
        stripped = compute.utf8_trim_whitespace(distinct).dictionary_encode()
        codes, distinct = np.append(stripped.indices.to_numpy(), np.int32(-1))[codes], stripped.dictionary
    short = np.flatnonzero(compute.less_equal(compute.utf8_length(distinct), max(map(len, missing), default=0)).to_numpy(False))
    words = compute.utf8_lower(distinct.take(pyarrow.array(short)))
    gone = short[compute.is_in(words, pyarrow.array(missing, words.type)).to_numpy(zero_copy_only=False)]
    if not len(gone):
        return codes, distinct
    there = np.ones(len(distinct), bool)
    there[gone] = False
    moved = np.append(np.where(there, np.cumsum(there) - 1, -1), -1).astype(np.int32)
    return moved[codes], distinct.filter(pyarrow.array(there))


def parse_numbers(distinct, decimal=None, *, comma=False):
    """Cells as numbers: also with thousands, a currency or a per cent sign.

    Args:
        distinct: pyarrow array of stripped text.
        decimal: The mark before fractions, "." or ","; found from the cells where it is `None`.
        comma: Whether a comma that may mean either is the decimal one.
    Returns: `(float64 array, NaN where a cell is no number, decimal)`; no `decimal` where all are plain numbers.
    """
    import pyarrow
    import pyarrow.compute as compute

    if decimal is None:
        try:
            numbers = compute.cast(distinct, pyarrow.float64()).to_numpy(zero_copy_only=False)
            return numbers, None
        except pyarrow.ArrowInvalid:
            pass
    bare = compute.replace_substring_regex(distinct, r"^\((.*)\)$", r"-\1")
    bare = compute.replace_substring_regex(bare, rf"^([-+]?)\s*{MONEY}\s*([-+]?)", r"\1\2")
    bare = compute.replace_substring_regex(bare, rf"\s*(?:%|{MONEY})$", "")
    spaced = compute.match_substring_regex(bare, r"^[-+]?\d{1,3}([ '\x{a0}\x{202f}\x{2019}]\d{3})+([.,]\d+)?$")
    bare = compute.if_else(spaced, compute.replace_substring_regex(bare, r"[ '\x{a0}\x{202f}\x{2019}]", ""), bare)
    if decimal is None:
        decimal = _decimal_mark(bare, compute.any(compute.not_equal(bare, distinct)).as_py(), comma)
    plain = compute.match_substring_regex(bare, PLAIN + r"|^[-+]?(?i:inf|infinity)$")
    fits = compute.match_substring_regex(bare, THOUSANDS[decimal])
    # With a decimal comma `1.234` has thousands; `1.5`, which has not, is a plain number all the same.
    fits = compute.or_(fits, plain)
    thousands, fraction = (",", ".") if decimal == "." else (".", ",")
    grouped = compute.match_substring_regex(bare, THOUSANDS[decimal])
    bare = compute.if_else(
        grouped, compute.replace_substring(compute.replace_substring(bare, thousands, ""), fraction, "."), bare
    )
    numbers = compute.cast(compute.if_else(fits, bare, pyarrow.scalar(None, bare.type)), pyarrow.float64())
    return numbers.to_numpy(zero_copy_only=False), decimal


def time_text(seconds, form):
    """Seconds since 1970 in a format that `parse_times` reads; nothing where they are NaN."""
    if np.isnan(seconds):
        return ""
    time = np.datetime64(int(seconds), "s")
    return str(time).removesuffix("T00:00:00") if form == "ISO8601" else time.item().strftime(form)


def parse_times(distinct, form):
    """Cells as seconds since 1970, NaN where a cell is not of this format (of `strptime`, or "ISO8601")."""
    import warnings

    import pandas
    import pyarrow

    if form == "ISO8601":
        with contextlib.suppress(pyarrow.ArrowInvalid):  # a zone, or a cell that is no time
            return distinct.cast(pyarrow.timestamp("us")).to_numpy(zero_copy_only=False).astype(np.int64) / 1e6
    parts = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for start in range(0, max(1, len(distinct)), PARSED_AT_ONCE):
            cells = distinct.slice(start, PARSED_AT_ONCE).to_pandas()
            found = pandas.to_datetime(cells, format=form, errors="coerce", utc=True)
            parts.append(found.dt.tz_localize(None).to_numpy(dtype="datetime64[us]"))
    times = np.concatenate(parts)
    return np.where(np.isnat(times), np.nan, times.astype(np.int64) / 1e6)


def role_notes(roles):
    """A line for each role and its columns."""
    lines = []
    for kind, meaning in ROLES.items():
        names = [name for name, role in roles.items() if role["role"] == kind]
        if names:
            shown = ", ".join(names[:12]) + (f", ... ({len(names)} columns)" if len(names) > 12 else "")
            lines.append(f"{meaning}: {shown}")
    return lines


def _decimal_mark(bare, had_units, comma):
    import pyarrow.compute as compute

    unclear = bare.filter(compute.invert(compute.match_substring_regex(bare, PLAIN)))
    fits = {mark: compute.sum(compute.match_substring_regex(unclear, form)).as_py() or 0 for mark, form in THOUSANDS.items()}
    if fits["."] == fits[","]:
        return "," if comma and not had_units else "."
    return max(fits, key=fits.get)


def _as_role(role, codes, distinct, comma):
    """`(role, parsed cells or None)` of a column whose role is given."""
    kind = role["role"]
    if kind == "number":
        parsed, decimal = parse_numbers(distinct, role.get("decimal"), comma=comma)
        _refuse_wrong(parsed, codes, distinct, "a number")
        return {**role, **({"decimal": decimal} if decimal else {})}, parsed
    if kind == "time":
        form = role.get("format") or _time_format(distinct)
        if form is None:
            raise WrongCell(0, distinct[0].as_py() if len(distinct) else "", "a date or a time in a common form")
        parsed = parse_times(distinct, form)
        _refuse_wrong(parsed, codes, distinct, "a date or a time" if form == "ISO8601" else f"a date or a time like {form}")
        return {**role, "format": form}, parsed
    return role, None


def _refuse_wrong(parsed, codes, distinct, expected):
    wrong = np.isnan(parsed)
    if wrong.any():
        row = int(np.flatnonzero(np.append(wrong, False)[codes])[0])
        raise WrongCell(row, distinct[int(codes[row])].as_py(), expected)


def _found_role(name, codes, distinct, comma):
    """`(role, parsed cells or None, almost)`."""
    count, different = int((codes >= 0).sum()), len(distinct)
    if not different:
        return {"role": "empty"}, np.zeros(0), None
    sample = distinct.slice(0, SAMPLE)
    words = [cell.as_py() for cell in sample]
    numbers, almost = None, None
    if np.isnan(parse_numbers(sample, comma=comma)[0]).mean() < 0.5:
        numbers, decimal = parse_numbers(distinct, comma=comma)
        if np.isnan(numbers).any():
            numbers, almost = None, _almost(np.isnan(numbers), codes, distinct, count)
    if different == 1 and count == len(codes):
        return {"role": "constant"}, numbers, None
    if different == 2 and {word.lower() for word in words} in BOOLEANS:
        return {"role": "boolean"}, None, None
    lower = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    if numbers is not None:
        kind = _role_of_numbers(lower, numbers, distinct, count)
        if kind == "number":
            return {"role": kind, **({"decimal": decimal} if decimal else {})}, numbers, None
        return {"role": kind}, numbers if kind in LEFT_OUT else None, None
    form = _time_format(sample)
    form = form and (_time_format(distinct, (form,)) or _time_format(distinct))
    if form:
        times = parse_times(distinct, form)
        return {"role": "time", "format": form}, times, _almost(np.isnan(times), codes, distinct, count)
    return {"role": _role_of_words(lower, words, different, count)}, None, almost


def _almost(wrong, codes, distinct, count):
    """`(cells, of how many, row of the first, cell)` where a few cells are not as the others, else `None`."""
    rows = np.flatnonzero(np.append(wrong, False)[codes])
    if not 0 < len(rows) < ALMOST * count:
        return None
    return len(rows), count, int(rows[0]), distinct[int(codes[rows[0]])].as_py()


def _role_of_numbers(name, numbers, distinct, count):
    import pyarrow.compute as compute

    finite = numbers[np.isfinite(numbers)]
    whole = len(finite) > 0 and bool((finite == np.floor(finite)).all())
    if not whole:
        return "number"
    all_differ = len(numbers) == count >= FEWEST_IDENTIFIERS
    zeros = compute.any(compute.match_substring_regex(distinct, r"^[-+]?0\d")).as_py()
    long = compute.any(compute.match_substring_regex(distinct, rf"^\d{{{LONG_NUMBER},}}$")).as_py()
    if zeros or long or CODES.search(name):
        return "identifier" if all_differ else "category"
    in_a_row = finite.max() - finite.min() + 1 == len(finite)
    if all_differ and in_a_row and (finite.min() in (0, 1) or IDENTIFIERS.search(name)):
        return "identifier"
    return "identifier" if all_differ and IDENTIFIERS.search(name) and finite.min() >= 0 else "number"


def _role_of_words(name, words, different, count):
    cut = [word.lower().split() for word in words]
    mean = sum(map(len, cut)) / len(cut)
    all_differ = different == count >= FEWEST_IDENTIFIERS
    often = different >= FEWEST_IDENTIFIERS and different > 0.3 * count
    if mean >= TEXT_WORDS and often:
        return "text"
    every = [word for each in cut for word in each]
    if all_differ:
        return "text" if mean >= SEVERAL_WORDS and len(set(every)) < 0.5 * len(every) else "identifier"
    return "category"


def _time_format(distinct, forms=None):
    """The first format that all cells but a few are of, or `None`."""
    words = distinct.slice(0, SAMPLE)
    first = [cell.as_py() for cell in distinct.slice(0, 20)]
    if not first or not all(re.search(r"\d", word) and re.search(r"[-/.:T]|[A-Za-z]{3}", word) for word in first):
        return None
    if forms is None:
        iso = all(re.match(r"\d{4}-\d\d", word) for word in first)
        forms = ("ISO8601",) if iso else (*(date + clock for date in DATES for clock in CLOCKS), *OTHER_TIMES)
        few = distinct.slice(0, 5)
        forms = [form for form in forms if not np.isnan(parse_times(few, form)).any()]
    for form in forms:
        if all(np.isnan(parse_times(cells, form)).mean() < ALMOST for cells in (words, distinct)):
            return form
    return None
