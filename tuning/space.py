"""The search space of an app: its options that have a search range, as the tuner sees them. No backend is imported here."""

import dataclasses
import itertools
import math
from dataclasses import dataclass

import numpy as np

from apps.common.errors import UserError, nearest
from apps.common.options.declare import check_needs, idle_options, is_active, make_config, options_of
from apps.common.options.training import Training

GRID_POINTS = 5  # of a continuous range
GRID_LIMIT = 1000  # points of a grid nobody asked for by --trials


@dataclass(frozen=True)
class Dimension:
    """One thing a search varies: an option, or one part of an option that is a list (`cell.3`).

    Args:
        option: The option it belongs to.
        part: Its place in the option's comma-separated list, or `None` for the whole option.
        choices: The values to choose from; empty for a range.
        low, high: Bounds of a range.
        log: Whether the range is walked on a logarithmic scale.
        whole: Whether a range holds whole numbers only.
        default: Where a grid begins, and what stands in for an option that is idle.
        needs: `((name of another dimension, values), ...)`, without which this one is idle.
    """

    option: str
    part: int | None = None
    choices: tuple = ()
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False
    default: object = None
    needs: tuple = ()

    @property
    def name(self):
        return self.option if self.part is None else f"{self.option}.{self.part}"

    def at(self, share):
        """The value at a share in [0, 1) of the way through the range or the choices."""
        if self.choices:
            return self.choices[int(share * len(self.choices))]
        if self.whole:
            return int(self.low + share * (self.high + 1 - self.low))
        return self.low * (self.high / self.low) ** share if self.log else self.low + share * (self.high - self.low)

    def points(self):
        """The values a grid takes."""
        if self.choices:
            return self.choices
        if self.whole and self.high - self.low < 2 * GRID_POINTS:
            return tuple(range(int(self.low), int(self.high) + 1))
        shares = [index / (GRID_POINTS - 1) for index in range(GRID_POINTS)]
        if self.log:
            values = [float(f"{self.low * (self.high / self.low) ** share:.3g}") for share in shares]
        else:
            values = [float(f"{self.low + (self.high - self.low) * share:.3g}") for share in shares]
        return tuple(dict.fromkeys(int(value) if self.whole else value for value in values))


class Space:
    """What is searched and what is fixed, over the `Config` of an app.

    Args:
        config_class: The app's `Config`.
        fixed: `{option: value}` held still, where the option does anything.
        only: Names of the options to search; `None` for all that have a range.
        own: Whether only the app's own options are searched (its architecture), not the technique all apps share.
    Raises:
        UserError: An unknown option, one without a range, one both fixed and searched, or nothing left to search.
    """

    def __init__(self, config_class, fixed, only=None, own=False):
        self.config_class = config_class
        self.options = options_of(config_class)
        self.own = own
        self.fixed = {name: self._parse(name, value) for name, value in fixed.items()}
        shared = {field.name for field in dataclasses.fields(Training)} if own and only is None else set()
        names = [name for name, each in self.options.items() if each.search and not each.refused and name not in shared]
        if only is not None:
            for name in only:
                self._check_searchable(name)
            names = [name for name in names if name in only]
        names = [name for name in names if name not in self.fixed]
        self.dimensions = []
        for name in self._parents_first(names):
            needs = self._needs(self.options[name], names)
            if needs is not None:
                self.dimensions += self._dimensions(self.options[name], tuple(needs))
            elif only is not None:
                check_needs(self._base(), self.options, self.options[name])
        if not self.dimensions:
            fixed_names = ", ".join(self.fixed) or "none"
            raise UserError(f"--only, --fix: nothing is left to search (fixed: {fixed_names}). Fix fewer options or name others")
        for name in self.fixed:
            if self._needs(self.options[name], names) is None:
                check_needs(self._base(), self.options, self.options[name])

    def _parse(self, name, value):
        if name not in self.options or self.options[name].refused:
            make_config(self.config_class, {name: value})  # says what is wrong with it
        return self.options[name].parse(value)

    def _check_searchable(self, name):
        known = [each.name for each in self.options.values() if each.search and not each.refused]
        if name not in self.options:
            raise UserError(f"--only {name}: no such option. {nearest(name, known)}")
        if name not in known:
            raise UserError(f"--only {name}: this option has no search range. {nearest(name, known)} Hold it still with --fix")
        if name in self.fixed:
            raise UserError(f"--only {name}: it is fixed at {self.fixed[name]}; leave one of the two out")

    def _parents_first(self, names):
        """The same names, an option after those it depends on, otherwise as they are declared."""
        ordered = []

        def add(name):
            if name not in ordered:
                for other in self.options[name].needs:
                    if other in names:
                        add(other)
                ordered.append(name)

        for name in names:
            add(name)
        return ordered

    def _base(self):
        return self.config_class(**self.fixed)

    def _needs(self, option, searched):
        """`[(other, values)]` the option depends on among those searched; `None` when it can never do anything."""
        found, base = [], self._base()
        if option.name in idle_options(base):
            return None
        for other, wanted in option.needs.items():
            wanted_tuple = () if callable(wanted) else wanted if isinstance(wanted, tuple) else (wanted,)
            accepts = wanted if callable(wanted) else wanted_tuple.__contains__
            if other not in searched:
                if not accepts(getattr(base, other)):
                    return None
                continue
            choices = self._choices(self.options[other])
            if not choices:
                continue  # a range: whether it holds is known for each configuration alone
            fitting = tuple(value for value in choices if accepts(value))
            if not fitting:
                return None
            if len(fitting) < len(choices):
                found.append((other, fitting))
        return found

    @staticmethod
    def _choices(option):
        """The values searched of an option, empty where it is a range."""
        if option.kind is bool:
            return (False, True)
        ranged = option.kind in (int, float) and len(option.search) == 2
        return () if ranged else tuple(option.search)

    def _dimensions(self, option, needs):
        if isinstance(option.search, list):  # one entry for each part of a comma-separated option
            defaults = str(option.default).split(",")
            parts = enumerate(zip(option.search, defaults, strict=True))
            return [
                Dimension(option.name, part, choices=tuple(choices), default=default, needs=needs)
                for part, (choices, default) in parts
                if len(choices) > 1
            ]
        choices = self._choices(option)
        if choices:
            if len({type(value) for value in choices}) > 1 or type(choices[0]) not in (int, float, str, bool):
                choices = tuple(_text(value) for value in choices)
            default = option.default if option.default in choices else choices[0]
            return [Dimension(option.name, choices=choices, default=default, needs=needs)]
        low, high = option.search
        default = min(max(option.default if option.default is not None else low, low), high)
        whole = option.kind is int
        return [Dimension(option.name, low=low, high=high, log=option.log, whole=whole, default=default, needs=needs)]

    def active(self, dimension, values):
        return all(values.get(other) in wanted for other, wanted in dimension.needs)

    def given(self, values):
        """The options, `{name: value}`, of one configuration of the search; what would do nothing is left out."""
        found, parts = dict(self.fixed), {}
        for dimension in self.dimensions:
            if dimension.name not in values:
                continue
            if dimension.part is None:
                found[dimension.option] = self.options[dimension.option].parse(values[dimension.name])
            else:
                whole = parts.setdefault(dimension.option, str(self.options[dimension.option].default).split(","))
                whole[dimension.part] = str(values[dimension.name])
        found |= {name: ",".join(each) for name, each in parts.items()}
        while idle := [name for name in found if not is_active(self.config_class(**found), self.options[name])]:
            for name in idle:
                del found[name]
        return found

    def config(self, values):
        """The checked `Config` of one configuration of the search."""
        return make_config(self.config_class, self.given(values))

    def draw(self, generator):
        """One random configuration."""
        values = {}
        for dimension in self.dimensions:
            if self.active(dimension, values):
                values[dimension.name] = dimension.at(generator.random())
        return values

    def check(self):
        """Refuse a search none of whose configurations can be: the defaults and fifty drawn ones are tried."""
        generator, refusals = np.random.default_rng(0), []
        for values in itertools.chain([{}], (self.draw(generator) for _ in range(50))):
            try:
                return self.config(values)
            except UserError as error:
                refusals.append(error)
        raise refusals[0]

    def grid_size(self, limit=10_000_000):
        """Number of points of the grid, counted up to `limit`."""

        def count(index, values):
            if index == len(self.dimensions):
                return 1
            dimension = self.dimensions[index]
            if not self.active(dimension, values):
                return count(index + 1, values)
            if not any(dimension.name == other for each in self.dimensions for other, _ in each.needs):
                return len(dimension.points()) * count(index + 1, values)  # nothing depends on which of them it is
            return sum(count(index + 1, {**values, dimension.name: point}) for point in dimension.points())

        return min(limit, count(0, {}))

    def plain(self):
        """The space as plain JSON, by which two searches are told apart."""
        return [[each.name, list(each.choices) or [each.low, each.high, each.log]] for each in self.dimensions]


def _text(value):
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower() if value is None else str(value)


def read_only(text):
    """`--only a,b` as names."""
    return tuple(name.strip().lstrip("-").replace("-", "_") for name in str(text).split(",") if name.strip())


def read_fixed(text):
    """`--fix a=1,b=2` as `{name: text}`; a comma inside a value belongs to it (`hidden_dims=64,32,dropout=0.1`)."""
    fixed, name = {}, None
    for piece in str(text).split(","):
        head, equals, value = piece.partition("=")
        if equals:
            name = head.strip().lstrip("-").replace("-", "_")
            fixed[name] = value
        elif name is None:
            raise UserError(f"--fix {text}: expected name=value, name=value ... Received: {piece!r}")
        else:
            fixed[name] += "," + piece
    return fixed


def spread(value, low, high, log):
    """Where a number stands between the ends of its range, 0 to 1."""
    if high == low:
        return 0.5
    return math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
