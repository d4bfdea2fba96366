"""The options that restoring and watching share, made from the fields of :class:`BatchOptions`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

import click

from codiff_batch.batch.options import BatchOptions
from codiff_batch.batch.shard import Shard
from codiff_batch.cli.parameters import Command, Devices, Millions, Number, ShardType, Types, folder
from codiff_batch.settings import Judging, Knob, Settings, knobs

SPELLED = {
    "output": ("-o", "--output"),
    "devices": ("--device",),
    "compiled": ("--compile",),
    "new_folder": ("--new-backup", "--new-output"),
    "max_pixels": ("--max-megapixels",),
    "max_bytes": ("--max-megabytes",),
}
"""Options that are spelled differently from their fields."""

_TYPES: Mapping[str, Callable[[], click.ParamType[Any]]] = {
    "devices": Devices,
    "types": Types,
    "max_pixels": Millions,
    "max_bytes": Millions,
}
"""Parameter types of fields for which the field's type is not enough."""

_TALK = (
    click.option("-v", "--verbose", is_flag=True, help="Print a line for every photo, with the reason."),
    click.option("-q", "--quiet", is_flag=True, help="Print failures only: no progress, no summary."),
)


def processing_options(*, once: bool) -> Callable[[Command], Command]:
    """Give a command these options, in the order of its help; it is called with ``options``, one typed value.

    All parameters that belong to :class:`BatchOptions` go into it; the others are passed on unchanged.

    Args:
        once: also the options of a run that ends.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def gathered(**values: Any) -> Any:
            return command(options=_gather(values), **values)

        wrapped: Any = gathered
        for option in reversed([*_options(once), *_TALK]):
            wrapped = option(wrapped)
        return cast(Command, wrapped)

    return decorate


def _gather(values: dict[str, Any]) -> BatchOptions:
    """Move the values that belong to the options into a :class:`BatchOptions`."""

    def own(kind: type[Any]) -> dict[str, Any]:
        return {each.name: values.pop(each.name) for each in fields(kind) if each.name in values}

    return BatchOptions(judging=Judging(**own(Judging)), settings=Settings(**own(Settings)), **own(BatchOptions))


def _options(once: bool) -> Iterator[Callable[[Any], Any]]:
    types = get_type_hints(BatchOptions)
    for each in fields(BatchOptions):
        if each.name in ("judging", "settings"):
            yield from map(knob_option, knobs(types[each.name]).values())
        elif "help" in each.metadata and (once or not each.metadata.get("once")):
            yield _field_option(each, types[each.name])


def batch_option(name: str) -> Callable[[Any], Any]:
    """The option of one field of :class:`BatchOptions`, or of a setting in it, for other commands."""
    types = get_type_hints(BatchOptions)
    for each in fields(BatchOptions):
        if each.name == name:
            return _field_option(each, types[name])
    return knob_option({**knobs(Judging), **knobs(Settings)}[name])


def knob_option(knob: Knob) -> Callable[[Any], Any]:
    """The option of a setting."""
    name = knob.name.replace("_", "-")
    if knob.is_switch:
        return click.option(f"--{name}/--no-{name}", default=knob.default, show_default=True, help=knob.help)
    unit = f"  [{knob.unit}]" if knob.unit else ""
    return click.option(
        f"--{name}",
        type=Number(knob.low, knob.high),
        default=_short(knob.default),
        show_default=knob.default is not None,
        metavar="N",
        help=knob.help + unit,
    )


def _field_option(each: Field[Any], hint: Any) -> Callable[[Any], Any]:
    names = SPELLED.get(each.name, (f"--{each.name.replace('_', '-')}",))
    told = each.metadata.get("told_default")
    help = each.metadata["help"] + (f"  [default: {told}]" if told else "")
    if hint is bool:
        return click.option(*names, each.name, is_flag=True, help=help)
    assert each.default is not MISSING
    return click.option(
        *names,
        each.name,
        type=_TYPES[each.name]() if each.name in _TYPES else _type(hint, each.metadata),
        default=_in_words(each.name, each.default),
        show_default=each.default is not None,
        metavar=each.metadata.get("placeholder"),
        help=help,
    )


def _short(number: float | None) -> float | None:
    """A whole number without decimals, as help shows it."""
    return int(number) if number is not None and number == int(number) else number


def _in_words(name: str, default: Any) -> Any:
    """A default as a user would type it."""
    if isinstance(default, tuple):
        return ",".join(default)
    return default // 1_000_000 if _TYPES.get(name) is Millions else default


def _type(hint: Any, limits: Mapping[str, Any]) -> click.ParamType[Any]:
    """The parameter type for a field's type; None in it means that there is no default."""
    if get_origin(hint) is Literal:
        return click.Choice(get_args(hint))
    if "choices" in limits:
        return click.Choice(limits["choices"])
    kind = next(one for one in (*get_args(hint), hint) if one is not type(None))
    low, high, above = (limits.get(name) for name in ("low", "high", "above"))
    known: Mapping[Any, click.ParamType[Any]] = {
        Path: folder,
        Shard: ShardType(),
        int: click.IntRange(low, high),
        float: Number(low if above is None else above, high, min_open=above is not None),
        str: click.STRING,
    }
    return known[kind]
