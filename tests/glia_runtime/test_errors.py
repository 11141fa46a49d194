from __future__ import annotations

import pytest

from glia_runtime import errors

FAMILY = [value for value in vars(errors).values() if isinstance(value, type)]


@pytest.mark.parametrize("cls", FAMILY)
def test_one_family_one_line(cls: type[errors.GliaError]) -> None:
    assert issubclass(cls, errors.GliaError)
    assert str(cls("a\nb\r\x1b[31m\udcff é")) == "a\\nb\\r\\x1b[31m\udcff é"


def test_missing_extra_says_what_to_type() -> None:
    error = errors.MissingExtraError.for_package("torch", "train", "glia-train")
    assert str(error) == "glia-train needs torch, which is not installed: pip install 'glia[train]'"
