"""What a kind of validator is made of: options with ranges, and how they become a validator."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Generic, TypeVar

from msgspec import Meta, Struct

from tokenmill.validate.score import Validator

#: Ranges that many options share.
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Count = Annotated[int, Meta(ge=0, le=100_000_000)]


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of one validator; types and ranges stand with the fields, `faults` says what contradicts."""

    def faults(self) -> Iterable[str]:
        """What is wrong with options that are right one by one, each with the way out."""
        return ()


OptionsT = TypeVar("OptionsT", bound=Options)


class Kind(Struct, Generic[OptionsT], frozen=True):
    """`options` is what a recipe may say; `build` makes the validator from a name and them.

    `scale`: the least and the greatest value, None if there is no greatest; a threshold outside is a mistake.
    `embeds`: `build` takes a third argument, the function that turns texts into vectors, None where none is named.
    `compares`: without a reference nothing has a score.
    """

    options: type[OptionsT]
    build: Callable[..., Validator]
    scale: tuple[float, float] | None = None
    embeds: bool = False
    compares: bool = False
