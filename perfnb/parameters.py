"""The parameters of a chapter: read from its tagged cell, and checked before anything runs."""

import ast
import io
import json
import tokenize
from dataclasses import dataclass
from pathlib import Path

import yaml

from perfnb.notebook import nbformat

TYPES = {t.__name__: (t,) for t in (str, int, bool, list, dict)} | {"float": (int, float)}
NONE = type(None)


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: ``name: annotation = default  # help``."""

    name: str
    annotation: str
    default: object
    help: str
    kinds: tuple[type, ...]

    def accepts(self, value: object) -> bool:
        """Tell whether a value has this parameter's type; None fits where it is the default."""
        if value is None:
            return self.default is None or NONE in self.kinds
        if isinstance(value, bool):  # which Python takes for an int
            return bool in self.kinds or object in self.kinds
        return isinstance(value, self.kinds)

    def parse(self, text: str) -> object:
        """Read a command-line value as a JSON or YAML literal, or as text where that is asked."""
        value = _literal(text)
        if not self.accepts(value) and self.accepts(text):
            return text
        return value

    def __str__(self) -> str:
        kind = f": {self.annotation}" if self.annotation else ""
        return f"{self.name}{kind} = {self.default!r}".ljust(34) + f"  {self.help}"


def _literal(text: str) -> object:
    for parse in (json.loads, yaml.safe_load):
        try:
            return parse(text)
        except (ValueError, yaml.YAMLError):
            continue
    return text


def _kinds(node: ast.expr) -> tuple[type, ...]:
    """Return the types that an annotation names; object for one that is not in TYPES."""
    if isinstance(node, ast.BinOp):
        return _kinds(node.left) + _kinds(node.right)
    if isinstance(node, ast.Constant):
        is_text = isinstance(node.value, str)
        return _kinds(ast.parse(node.value, mode="eval").body) if is_text else (NONE,)
    if isinstance(node, ast.Subscript):
        is_optional = getattr(node.value, "id", "") == "Optional"
        return (*_kinds(node.slice), NONE) if is_optional else _kinds(node.value)
    return TYPES.get(getattr(node, "id", ""), (object,))


def read(notebook: Path) -> dict[str, Parameter]:
    """Read the parameters that a chapter takes.

    Parameters
    ----------
    notebook : Path
        A chapter; one of its cells is tagged ``parameters`` and holds assignments of literals.

    Returns
    -------
    dict of Parameter
        By name, in the cell's order.

    Raises
    ------
    FileNotFoundError, ValueError
        The notebook is missing, is no notebook, or has no such cell.
    """
    if not notebook.is_file():
        raise FileNotFoundError(f"{notebook} is missing: give the path of a chapter in notebooks/")
    try:
        cells = nbformat.read(notebook, as_version=4).cells
    except Exception as error:
        raise ValueError(f"{notebook} is not a Jupyter notebook: {error}") from error
    tagged = [c.source for c in cells if "parameters" in c.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(
            f"{notebook} has {len(tagged)} cells tagged 'parameters', expected one: "
            "tag the cell that holds the chapter's parameters"
        )
    return {p.name: p for p in _assignments(tagged[0], notebook)}


def _assignments(source: str, notebook: Path) -> list[Parameter]:
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = []
    for node in ast.parse(source).body:
        typed = isinstance(node, ast.AnnAssign)
        target = node.target if typed else node.targets[0] if isinstance(node, ast.Assign) else None
        try:
            name, default = target.id, ast.literal_eval(node.value)
        except (AttributeError, ValueError) as error:
            raise ValueError(
                f"{notebook}: '{ast.unparse(node)}' in the parameters cell is not "
                "'name = literal': move derived values to the next cell"
            ) from error
        annotation = ast.unparse(node.annotation) if typed else ""
        kinds = _kinds(node.annotation if typed else ast.Name(type(default).__name__))
        told = comments.get(node.end_lineno, "")
        found.append(Parameter(name, annotation, default, told, kinds))
    return found


def check(chapter: str, known: dict[str, Parameter], given: dict[str, object]) -> dict[str, object]:
    """Refuse parameters that the chapter doesn't know and values of the wrong type.

    Parameters
    ----------
    chapter : str
        Name for the messages.
    known : dict of Parameter
        What `read` found.
    given : dict
        Values by name; a string is read as a literal where the parameter isn't text.

    Returns
    -------
    dict
        The values, each of its parameter's type.

    Raises
    ------
    ValueError
        One message that lists the known parameters, or names the type that was expected.
    """
    unknown = [name for name in given if name not in known]
    if unknown:
        listing = "\n".join(f"  {parameter}" for parameter in known.values())
        raise ValueError(f"{chapter} has no parameter {', '.join(unknown)}. It knows:\n{listing}")
    values = {}
    for name, value in given.items():
        parameter = known[name]
        values[name] = parameter.parse(value) if isinstance(value, str) else value
        if not parameter.accepts(values[name]):
            kind = parameter.annotation or type(parameter.default).__name__
            raise ValueError(
                f"{chapter}: parameter {name} = {values[name]!r} is of type "
                f"{type(values[name]).__name__}, expected {kind}: {parameter.help}"
            )
    return values
