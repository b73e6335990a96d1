"""Options: a dataclass field is the flag, its help, its bounds, its search range and what it depends on, all at once.

No backend is imported here, so a typing error costs one line and no waiting.
"""

import dataclasses
import math
import types
import typing
from dataclasses import dataclass

from apps.common.errors import UserError, nearest

NONE_WORDS = ("none", "null", "")
TRUE_WORDS, FALSE_WORDS = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def option(default, help, *, low=None, above=None, high=None, search=None, log=False, needs=None):
    """One option of a `Config`.

    Args:
        default: Its value when nothing is given.
        help: One line for `--help`.
        low, above, high: Bounds of a number: at least `low`, more than `above`, at most `high`.
        search: Range `(low, high)` or tuple of choices a tuner explores; `None` keeps it out of the search.
        log: Whether the tuner samples the range on a logarithmic scale.
        needs: `{other option: value or tuple of values}` without which this one does nothing and is refused.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "help": help,
            "low": low,
            "above": above,
            "high": high,
            "search": search,
            "log": log,
            "needs": needs or {},
        },
    )


def refused(default, why):
    """An option every run shares that does nothing for this app: giving it is an error that says why."""
    return dataclasses.field(default=default, metadata={"refused": why})


@dataclass(frozen=True)
class Option:
    """One option as the command line and the tuner see it."""

    name: str
    kind: type
    default: object
    optional: bool = False
    choices: tuple = ()
    help: str = ""
    low: float | None = None
    above: float | None = None
    high: float | None = None
    search: tuple | None = None
    log: bool = False
    needs: dict = dataclasses.field(default_factory=dict)
    refused: str = ""

    @property
    def flag(self):
        return "--" + self.name.replace("_", "-")

    @property
    def expected(self):
        """What a value must look like, in words."""
        if self.choices:
            words = "one of " + ", ".join(map(str, self.choices))
        elif self.kind is bool:
            words = "yes or no"
        elif self.kind is tuple:
            words = "whole numbers separated by commas, such as 256,128"
            words += f", each from {self.low} to {self.high}" if self.low is not None and self.high is not None else ""
        elif self.kind in (int, float):
            words = "a whole number" if self.kind is int else "a number"
            bounds = [f"above {self.above}"] if self.above is not None else []
            bounds += [f"at least {self.low}"] if self.low is not None else []
            bounds += [f"at most {self.high}"] if self.high is not None else []
            words += (" " if bounds else "") + " and ".join(bounds)
        else:
            words = "text"
        return words + (", or none" if self.optional else "")

    def parse(self, value):
        """The value of this option from text (or from a value already of its type), within its bounds."""
        text = value.strip() if isinstance(value, str) else value
        if self.optional and (text is None or (isinstance(text, str) and text.lower() in NONE_WORDS)):
            return None
        try:
            parsed = self._convert(text)
        except (TypeError, ValueError):
            parsed = None
        if self.choices and parsed not in self.choices:
            raise UserError(f"{self.flag}: expected {self.expected}. Received: {value}. {nearest(value, self.choices)}")
        if parsed is None or not self._within(parsed):
            raise UserError(f"{self.flag}: expected {self.expected}. Received: {value}")
        return parsed

    def _convert(self, text):
        if self.kind is bool:
            if isinstance(text, bool):
                return text
            word = str(text).lower()
            return True if word in TRUE_WORDS else False if word in FALSE_WORDS else None
        if self.kind is tuple:
            parts = text.split(",") if isinstance(text, str) else text
            return tuple(int(part) for part in parts)
        if self.kind is int and not isinstance(text, int):
            number = float(text)
            return int(number) if number == int(number) else None
        return self.kind(text)

    def _within(self, value):
        numbers = value if isinstance(value, tuple) else (value,)
        if self.kind not in (int, float, tuple):
            return True
        return bool(numbers) and all(
            math.isfinite(number)
            and (self.low is None or number >= self.low)
            and (self.above is None or number > self.above)
            and (self.high is None or number <= self.high)
            for number in numbers
        )


def options_of(config_class):
    """The options of a `Config`, in the order they are declared, as `{name: Option}`."""
    hints = typing.get_type_hints(config_class)
    return {field.name: _option(field, hints[field.name]) for field in dataclasses.fields(config_class)}


def _option(field, hint):
    optional = False
    if typing.get_origin(hint) in (types.UnionType, typing.Union):  # the second of a `Literal`
        arguments = [argument for argument in typing.get_args(hint) if argument is not type(None)]
        optional, hint = len(arguments) < len(typing.get_args(hint)), arguments[0]
    choices = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
    kind = type(choices[0]) if choices else typing.get_origin(hint) or hint
    return Option(field.name, kind, field.default, optional, choices, **field.metadata)


def make_config(config_class, values):
    """A checked `Config` from `{name: text or value}`; an option that would do nothing is refused.

    Raises:
        UserError: Naming the option, what was expected and what came.
    """
    options = options_of(config_class)
    parsed = {}
    for name, value in values.items():
        if name not in options:
            known = [each.flag for each in options.values() if not each.refused]
            flag = "--" + name.replace("_", "-")
            raise UserError(f"unknown option {flag}. {nearest(flag, known)} See --help")
        if options[name].refused:
            raise UserError(f"{options[name].flag} does nothing here: {options[name].refused}. Leave it out")
        parsed[name] = options[name].parse(value)
    config = config_class(**parsed)
    for name in parsed:
        if getattr(config, name) != options[name].default:
            check_needs(config, options, options[name])
    check = getattr(config, "check", None)
    if check:
        check()
    return config


def idle_options(config):
    """`{option: why}` of what several others together make idle, as the `idle` of a `Config` says."""
    return config.idle() if hasattr(config, "idle") else {}


def is_active(config, option):
    """Whether the option can do anything under the other options of this `Config`."""
    return not (option.refused or option.name in idle_options(config)) and all(
        getattr(config, other) in (wanted if isinstance(wanted, tuple) else (wanted,))
        if not callable(wanted)
        else wanted(getattr(config, other))
        for other, wanted in option.needs.items()
    )


def check_needs(config, options, option):
    """Refuse an option that the others make idle."""
    if is_active(config, option):
        return
    if option.name in idle_options(config):
        raise UserError(f"{option.flag} does nothing here: {idle_options(config)[option.name]}. Leave it out")
    for other, wanted in option.needs.items():
        flag, current = options[other].flag, getattr(config, other)
        if callable(wanted):
            if not wanted(current):
                raise UserError(f"{option.flag} does nothing with {flag} {current}. Change {flag} or leave it out")
            continue
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        if current not in wanted:
            expected = " or ".join(map(str, wanted))
            raise UserError(f"{option.flag} does nothing with {flag} {current}; it needs {flag} {expected}")


def to_plain(config):
    """A `Config` as plain JSON values."""
    plain = {}
    for name, value in dataclasses.asdict(config).items():
        plain[name] = list(value) if isinstance(value, tuple) else value
    return plain
