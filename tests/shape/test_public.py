"""The public names are typed and documented."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Final

import pytest

import outwork
from outwork import errors

PUBLIC_CLASSES: Final = [value for name in outwork.__all__ if isinstance(value := getattr(outwork, name), type)]


def own_methods(kind: type) -> Iterator[tuple[str, Any]]:
    """Public functions that the class defines; a property's name may speak for itself."""
    for name, value in vars(kind).items():
        if not name.startswith("_") and inspect.isfunction(value):
            yield f"{kind.__qualname__}.{name}", value


def test_the_package_says_that_it_is_typed() -> None:
    assert files("outwork").joinpath("py.typed").is_file()


@pytest.mark.parametrize("name", outwork.__all__)
def test_a_public_name_is_documented(name: str) -> None:
    value = getattr(outwork, name)
    assert (inspect.getdoc(value) or "").strip(), f"outwork.{name} has no docstring"


@pytest.mark.parametrize("kind", PUBLIC_CLASSES, ids=lambda kind: kind.__name__)
def test_public_methods_are_documented_and_typed(kind: type) -> None:
    for name, method in own_methods(kind):
        assert inspect.getdoc(method), f"{name} has no docstring"
        signature = inspect.signature(method)
        assert signature.return_annotation is not signature.empty, f"{name} has no return type"
        parameters = list(signature.parameters.values())[1:]
        assert all(p.annotation is not p.empty for p in parameters), f"{name} has an untyped parameter"


def test_all_is_sorted_and_complete() -> None:
    assert sorted(outwork.__all__) == list(outwork.__all__)
    assert len(set(outwork.__all__)) == len(outwork.__all__)


def error_classes() -> list[type[errors.OutworkError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.OutworkError)]


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in error_classes() if kind is not errors.Control]
    assert len(set(codes)) == len(codes)
    assert all(kind.__doc__ for kind in error_classes())
