"""The methods of a search by name: our own, remedies of others, and Λ together with a remedy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

from ldarts_lib.bilevel.alignment import Form
from ldarts_lib.bilevel.remedies.remedy import Remedy
from ldarts_lib.bilevel.remedies.table import REMEDIES
from ldarts_lib.errors import ProtocolError
from ldarts_lib.settings import validated

_Plain = Literal[
    "darts", "darts-2nd", "lambda", "lambda-sign", "lambda-edge", "lambda-projected",
    "lambda-random", "lambda-noise", "lambda-blurred", "lambda-flipped",
]  # fmt: skip
_JOINED = tuple(f"lambda+{name}" for name, remedy in REMEDIES.items() if remedy.with_lambda)
Method = Literal[_Plain, *REMEDIES, *_JOINED]
TextMethod = Literal["darts", "lambda", "lambda-sign"]
PLAIN_METHODS: tuple[str, ...] = get_args(_Plain)
"""Methods of a search on images without a remedy."""
METHODS: tuple[str, ...] = (*PLAIN_METHODS, *REMEDIES)
TEXT_METHODS: tuple[str, ...] = get_args(TextMethod)
"""Methods of a search on images, and on a text."""
FORMS: dict[str, Form] = {
    "lambda": "cosine",
    "lambda-sign": "sign",
    "lambda-projected": "projected",
    "lambda-edge": "edge",
    "lambda-random": "random",
    "lambda-noise": "noise",
    "lambda-blurred": "blurred",
    "lambda-flipped": "flipped",
}
"""The form of the regularizer of each method that has one."""
_OF_REGULARIZER = ("lambda_max", "ramp", "estimator", "epsilon", "regularized_cells", "regularizer_batch")


def form_of(method: str) -> Form | None:
    """The form of the regularizer of a method, ``lambda+NAME`` among them."""
    return FORMS.get(method.partition("+")[0])


def remedy_of(method: object) -> type[Remedy]:
    """The remedy of a method; where it has none, the one that changes nothing."""
    return REMEDIES.get(str(method).removeprefix("lambda+"), Remedy)


def refuse_unread(method: str, given: Iterable[str]) -> None:
    """Refuse settings of the regularizer that were asked for, where the method has none but a remedy."""
    unread = [name for name in given if name in _OF_REGULARIZER]
    if unread and method in REMEDIES:
        raise ProtocolError(f"{', '.join(unread)}: method {method!r} has no regularizer that reads it")


def with_remedy(given: Mapping[str, Any], known: Iterable[str]) -> Mapping[str, Any]:
    """Settings of a search with those of its remedy, checked and complete, in their place."""
    method, known = given.get("method"), list(known)
    if (remedy := remedy_of(method)) is Remedy:
        if given.get("remedy") is not None:
            raise ValueError(f"remedy: method {method!r} has none")
        return given
    own = {name: value for name, value in given.items() if name not in known}
    for name in own.keys() - remedy.model_fields.keys():
        these = f"{', '.join(known)}, and of method {method!r} {', '.join(remedy.model_fields)}"
        raise ValueError(f"unknown setting {name!r}; the settings are {these}")
    if not isinstance(settings := given.get("remedy") or {}, Mapping):
        raise ValueError("remedy: give its settings by name, like the others")
    chosen = validated(remedy, {**settings, **own})
    return {name: given[name] for name in given if name in known} | {"remedy": chosen.model_dump()}
