"""The words of a command line, and the help that says which there are."""

from apps.common.errors import UserError
from apps.common.options.declare import options_of

# What people set most, in the order of the help.
OFTEN = (
    "data", "target", "model", "pretrained", "epochs", "batch_size", "learning_rate", "optimizer", "schedule", "dropout",
    "augment", "early_stopping", "seed",
)  # fmt: skip


def read_command_line(words, switches):
    """`(positionals, {option: text, or True})` of a command line; options may stand anywhere, `switches` take no value."""
    positionals, given, index = [], {}, 0
    while index < len(words):
        word = words[index]
        index += 1
        if word == "-h":
            given["help"] = True
        elif not word.startswith("--") or word == "--":
            positionals.append(word)
        else:
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            following = words[index] if index < len(words) else None
            if equals:
                given[name] = value
            elif name in switches or following is None or following.startswith("--"):
                given[name] = True
            else:
                given[name] = following
                index += 1
    return positionals, given


def settle_switches(given, options):
    """Options given without a value: yes for a switch, no for its `--no-` form, an error for the rest."""
    settled = {}
    for name, value in given.items():
        if isinstance(value, str) and not value.strip() and name in options:
            raise UserError(f"{options[name].flag}: a value is missing; expected {options[name].expected}. Leave the option out")
        positive = name.removeprefix("no_")
        if name not in options and positive in options and options[positive].kind is bool and value is True:
            settled[positive] = False
        elif value is True and name in options and options[name].kind is not bool:
            raise UserError(f"{options[name].flag}: a value is missing; expected {options[name].expected}")
        else:
            settled[name] = value
    return settled


def options_help(config_class):
    """One line an option: its flag, what it does, its choices, the models it belongs to, its default; those most used first."""
    known = {name: each for name, each in options_of(config_class).items() if not each.refused}
    first = [name for name in OFTEN if name in known]
    lines = [_help_line(known[name]) for name in first]
    rest = [_help_line(each) for name, each in known.items() if name not in first]
    return [*lines, "", "  further options:", *rest] if lines and rest else [*lines, *rest]


def _help_line(option):
    default = ",".join(map(str, option.default)) if isinstance(option.default, tuple) else option.default
    choices = f": {', '.join(map(str, option.choices))}" if option.choices else ""
    wanted = option.needs.get("model", ())
    models = f" ({', '.join(wanted if isinstance(wanted, tuple) else (wanted,))})" if wanted and not callable(wanted) else ""
    return f"  {option.flag:24} {option.help}{choices}{models} [{default}]"


def whole_number(given, name, default):
    text = given.get(name)
    if text is None:
        return default
    if not str(text).isdecimal() or not 0 < int(text) < 65536:
        raise UserError(f"--{name}: expected a whole number from 1 to 65535. Received: {text}")
    return int(text)
