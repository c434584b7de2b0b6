"""Typed parameters, declared by the source of a notebook cell and checked by pydantic.

A declaration is an assignment with a type and a comment, which Colab also shows as a form field::

    seeds: int = 3  # @param {type:"integer"} -- number of seeds

It is read from the syntax tree: nothing is executed or evaluated.
"""

from __future__ import annotations

import ast
import difflib
import io
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainValidator, Strict, TypeAdapter, ValidationError

from ldarts_lib.errors import LdartsError

_FORM = re.compile(r"#\s*(?:@param\s*(?:\[.*?\])?\s*(?:\{.*?\})?)?\s*(?:--)?\s*(?P<help>.*)")
_SUPPORTED = "int, float, str, bool, Literal[...], list[...], tuple[...], and `... | None` of these"


class NotebookError(LdartsError, ValueError):
    """A notebook whose parameters cell is missing, doubled or malformed."""


class ParameterError(LdartsError, ValueError):
    """Unknown parameter names or values that do not fit their declaration."""


@dataclass(frozen=True)
class Parameter:
    """One declared parameter of a notebook.

    Attributes:
        name: the variable that it sets.
        annotation: its type as written, for instance ``int | None``.
        type: what pydantic validates it with; text, as from a command line, is read to that type.
        default: the value in the notebook, validated.
        help: the comment, without the ``@param`` form.
    """

    name: str
    annotation: str
    type: Any
    default: object
    help: str

    def read(self, value: object) -> Any:
        """``value`` as the declared type, or pydantic's ``ValidationError``."""
        return TypeAdapter(self.type).validate_python(value)

    @property
    def expected(self) -> str:
        """The type in words, with the allowed values of a ``Literal``."""
        return re.sub(r"Literal\[(.*?)\]", r"one of \1", self.annotation)


def validate(declared: Mapping[str, Parameter], given: Mapping[str, object]) -> dict[str, Any]:
    """The given values as their declared types; text is parsed (``"3"``, ``"true"``, ``"1,2"``).

    Raises:
        ParameterError: it lists every unknown name and every bad value, with what is allowed.
    """
    values, problems = {}, []
    for name, value in given.items():
        if name not in declared:
            problems.append(f"unknown parameter {name!r}{_guess(name, declared)}")
            continue
        try:
            values[name] = declared[name].read(value)
        except ValidationError:
            problems.append(f"{name} = {value!r}: expected {declared[name].expected}")
    if problems:
        allowed = ", ".join(f"{p.name}: {p.annotation}" for p in declared.values())
        raise ParameterError("; ".join(problems) + f"\nallowed parameters: {allowed}")
    return values


def declarations(source: str) -> dict[str, Parameter]:
    """The parameters that the source of a cell declares, in order.

    Raises:
        NotebookError: it declares none, does something else, or a declaration lacks a supported
            type, a literal value of that type, or a comment.
    """
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise NotebookError(f"line {error.lineno}: {error.msg}") from None
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}
    declared: dict[str, Parameter] = {}
    for statement in statements:
        parameter = _declaration(statement, comments)
        if parameter.name in declared:
            raise NotebookError(f"{parameter.name} is declared twice")
        declared[parameter.name] = parameter
    if not declared:
        raise NotebookError("it declares no parameter")
    return declared


def _declaration(statement: ast.stmt, comments: Mapping[int, str]) -> Parameter:
    match statement:
        case ast.AnnAssign(ast.Name(name), annotation, ast.expr() as value):
            pass
        case _:
            raise NotebookError(
                f"line {statement.lineno}: expected `name: type = value  # what it is for`, "
                f"got `{ast.unparse(statement)}`"
            )
    lines = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
    comment = next((comments[line] for line in reversed(lines) if line in comments), "#")
    form = _FORM.match(comment)
    if form is None or not form["help"]:
        raise NotebookError(f"{name} needs a comment on its line that says what it is for")
    kind = _type(annotation)
    try:
        default = TypeAdapter(kind).validate_python(literal := ast.literal_eval(value))
        if default != literal:
            raise ValueError("text that would have to be read")
    except (ValueError, TypeError):  # pydantic's ValidationError is a ValueError
        raise NotebookError(
            f"{name}: the default {ast.unparse(value)} is no literal of {ast.unparse(annotation)}"
        ) from None
    return Parameter(name, ast.unparse(annotation), kind, default, form["help"].strip())


def _type(annotation: ast.expr) -> Any:
    """The pydantic type of an annotation; it reads text as well as values."""
    match annotation:
        case ast.Name(name) if name in _SCALARS:
            return _SCALARS[name]
        case ast.Subscript(ast.Name("Literal"), members):
            return _choice(_elements(members))
        case ast.Subscript(ast.Name("list"), element):
            return Annotated[list[_type(element)], BeforeValidator(_read_elements)]
        case ast.Subscript(ast.Name("tuple"), members):
            elements = tuple(
                ... if ast.unparse(member) == "..." else _type(member) for member in _elements(members)
            )
            return Annotated[tuple[elements], BeforeValidator(_read_elements)]
        case ast.BinOp(inner, ast.BitOr(), ast.Constant(None)):
            return Annotated[_type(inner) | None, BeforeValidator(_read_none)]
    raise NotebookError(f"the type {ast.unparse(annotation)} is not supported; supported: {_SUPPORTED}")


def _elements(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def _choice(members: list[ast.expr]) -> Any:
    try:
        choices = tuple(ast.literal_eval(member) for member in members)
    except ValueError:
        raise NotebookError("Literal[...] takes literal values only") from None

    def pick(value: object) -> object:
        for choice in choices:
            same_kind = isinstance(value, bool) == isinstance(choice, bool)
            if (same_kind and value == choice) or value == str(choice):
                return choice
        raise ValueError(f"not one of {choices}")

    return Annotated[Any, PlainValidator(pick)]


def _read_none(value: object) -> object:
    return None if value in ("None", "none", "null") else value


def _read_elements(value: object) -> object:
    """``"1,2"`` or ``"[1, 2]"`` as a list; what is not text stays as it is."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith(("[", "(")):
        try:
            return ast.literal_eval(text)
        except SyntaxError as error:
            raise ValueError(error.msg) from None
    return [element.strip() for element in text.split(",")] if text else []


def _read_bool(value: object) -> object:
    return {"true": True, "false": False, "1": True, "0": False}.get(str(value).lower(), value)


def _refuse_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")
    return value


_SCALARS: dict[str, Any] = {
    "int": Annotated[int, BeforeValidator(_refuse_bool)],
    "float": Annotated[float, BeforeValidator(_refuse_bool)],
    "bool": Annotated[bool, Strict(), BeforeValidator(_read_bool)],
    "str": Annotated[str, Strict()],
}


def _guess(name: str, declared: Mapping[str, Parameter]) -> str:
    close = difflib.get_close_matches(name, declared, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
