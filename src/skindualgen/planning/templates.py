"""Templates with variants and wildcards, which become templates of our own: dynamicprompts' syntax around data fields.

A template is a line such as ``{a|the} dermoscopic image of {a_diagnosis}[ on {site}], __light__``:

* ``{field}`` with the name of a field (`skindualgen.data.prompts.FIELD_ATTRIBUTES`) is filled from the data, and a
  ``[group]`` is dropped where one of its fields is not known, as in ``skindualgen prepare --template``;
* everything else is dynamicprompts': ``{a|b}``, ``{2::a|b}``, ``{2$$ and $$a|b|c}``, ``${x=...}``; ``__light__`` is one
  line of the file ``light.txt``, which may hold fields, variants and wildcards too.

dynamicprompts chooses first; what it leaves is a template as `prompt_for` takes it.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from skindualgen.contracts import InputError
from skindualgen.data.prompts import FIELD_ATTRIBUTES, parse_template

if TYPE_CHECKING:
    from dynamicprompts.sampling_context import SamplingContext

COMMENT = "#"
_WILDCARD = re.compile(r"__([^\W_](?:[\w/-]*?[^\W_])?)__", re.ASCII)
_BRACES = re.compile(r"(?<![$%])\{([^{}|$]*)\}")
"""Braces without a choice in them: a field, or a slip."""


@dataclass(frozen=True)
class DynamicTemplates:
    """Templates of a file, checked.

    Attributes:
        path: the file.
        templates: line in the file -> template, as it is there.
        wildcards: name -> values, of all that the templates name, with fields as dynamicprompts' variables.
    """

    path: Path
    templates: Mapping[int, str]
    wildcards: Mapping[str, list[str]] = field(default_factory=dict)

    def streams(self, seed: int) -> list[Iterator[str]]:
        """One endless stream a template, of templates as `prompt_for` takes them; a function of the seed."""
        context = _context(self.wildcards, Random(seed))
        return [self._stream(line, template, context) for line, template in self.templates.items()]

    def _stream(self, line: int, template: str, context: SamplingContext) -> Iterator[str]:
        from pyparsing import ParseException

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of pyparsing, to dynamicprompts
                found = iter(context.sample_prompts(_with_variables(self.path, line, template)))
            for sample in found:
                yield str(sample)
        except (ParseException, ValueError, KeyError, RecursionError) as error:
            got = f"{self.path}, line {line}: {template!r} ({str(error) or type(error).__name__})"
            remedy = "close every brace, and define every ${variable}"
            raise InputError(got, "a template in dynamicprompts' syntax", remedy) from error


def templates_named(path: Path | None, wildcards: Path | None) -> DynamicTemplates | None:
    """Read the file of templates, if one is named.

    Raises:
        InputError: wildcards without templates, and as `read_templates`.
    """
    if path is not None:
        return read_templates(path, wildcards)
    if wildcards is not None:
        raise InputError("--wildcards without --templates", "both", "name the file of templates")
    return None


def read_templates(path: Path, wildcards: Path | None = None) -> DynamicTemplates:
    """Read a file of templates, one a line; lines that begin with ``#`` are comments. One sample of each is checked.

    Args:
        path: a UTF-8 text file.
        wildcards: folder of the wildcards' text files; the file's own folder if not given.

    Raises:
        InputError: dynamicprompts is not installed; unreadable or empty; a field that is not known; a wildcard without
            a file, with an empty one or that holds itself; a template that is none.
    """
    try:
        import dynamicprompts  # noqa: F401
    except ImportError as error:
        raise InputError(
            "no package dynamicprompts", "what chooses variants and wildcards", "pip install 'skindualgen[templates]'"
        ) from error
    lines = dict(_lines(path))
    if not lines:
        raise InputError(f"{path} without any template", "one template per line", "write one, or leave --templates out")
    values: dict[str, list[str]] = {}
    for number, line in lines.items():
        _collect(_with_variables(path, number, line), wildcards or path.parent, values, f"{path}, line {number}", ())
    found = DynamicTemplates(path, lines, values)
    for stream in found.streams(seed=0):
        parse_template(next(stream, ""))
    return found


def _context(wildcards: Mapping[str, list[str]], random: Random) -> SamplingContext:
    from dynamicprompts.commands import LiteralCommand
    from dynamicprompts.enums import SamplingMethod
    from dynamicprompts.sampling_context import SamplingContext
    from dynamicprompts.wildcards import WildcardManager

    return SamplingContext(
        default_sampling_method=SamplingMethod.RANDOM,
        wildcard_manager=WildcardManager(root_map={"": [dict(wildcards)]}),
        rand=random,
        variables={name: LiteralCommand(f"{{{name}}}") for name in FIELD_ATTRIBUTES},
    )


def _with_variables(path: Path, number: int, text: str) -> str:
    """Write fields as dynamicprompts' variables, which it would else take for variants of one choice."""

    def variable(braces: re.Match[str]) -> str:
        name = braces[1].strip()
        if name in FIELD_ATTRIBUTES:
            return f"${{{name}}}"
        if "__" in name:
            return braces[0]
        near = difflib.get_close_matches(name, FIELD_ATTRIBUTES, n=1)
        raise InputError(
            f"{path}, line {number}: {braces[0]}, which is no field and holds no choice",
            f"one of {', '.join(FIELD_ATTRIBUTES)}, or variants like {{a|b}}",
            f"write {{{near[0]}}}, if that is meant" if near else "fix the braces",
        )

    def in_braces(wildcard: re.Match[str]) -> str:
        before = wildcard.string[: wildcard.start()]
        return wildcard[0] if before.count("{") > before.count("}") else f"{{{wildcard[0]}}}"

    if "__" in _WILDCARD.sub("", text):
        got = f"{path}, line {number}: '__' that is no wildcard"
        raise InputError(got, "__name__, of letters, digits, - and /", "fix the wildcard's name")
    # dynamicprompts parses the values of a bare wildcard again for each prompt (3 ms), those of one in braces once.
    return _WILDCARD.sub(in_braces, _BRACES.sub(variable, text))


def _collect(text: str, folder: Path, values: dict[str, list[str]], where: str, above: tuple[str, ...]) -> None:
    """Read the wildcards that a text names, and those that these name."""
    for match in _WILDCARD.finditer(text):
        name = match[1]
        if name in above:
            got = f"{where}: the wildcard __{name}__, which holds itself"
            raise InputError(got, "wildcards that end", "take it out of its own file")
        if name in values:
            continue
        path = folder / f"{name}.txt"
        if not path.is_file():
            got = f"{where}: the wildcard __{name}__, and no file {path}"
            expected, remedy = "a text file with one value per line", "write it, or name its folder with --wildcards"
            raise InputError(got, expected, remedy)
        values[name] = []
        for number, line in _lines(path):
            value = _with_variables(path, number, line)
            _collect(value, folder, values, f"{path}, line {number}", (*above, name))
            values[name].append(value)
        if not values[name]:
            raise InputError(f"{path} without any value", "one value per line", "write one")


def _lines(path: Path) -> list[tuple[int, str]]:
    """Lines with their numbers, without empty ones and comments."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} ({error})", "a readable UTF-8 file", "check the path") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    return [(number, line) for number, line in lines if line and not line.startswith(COMMENT)]
