from __future__ import annotations

import pytest
import typer

from glia_runtime import errors
from glia_runtime.command import errors_on_one_line

FAMILY = [value for value in vars(errors).values() if isinstance(value, type)]


@pytest.mark.parametrize("cls", FAMILY)
def test_one_family_one_line(cls: type[errors.GliaError]) -> None:
    assert issubclass(cls, errors.GliaError)
    assert str(cls("a\nb\r\x1b[31m\udcff é")) == "a\\nb\\r\\x1b[31m\udcff é"


def test_missing_extra_says_what_to_type() -> None:
    error = errors.MissingExtraError.for_package("torch", "train", "glia-train")
    assert str(error) == "glia-train needs torch, which is not installed: pip install 'glia[train]'"


def test_a_command_says_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), errors_on_one_line("glia-train", debug=False):
        raise ModuleNotFoundError("No module named 'timm'", name="timm")
    line = "glia-train: this command needs timm, which is not installed: pip install 'glia[train]'\n"
    assert capsys.readouterr().err == line


def test_what_fails_after_ctrl_c_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as left, errors_on_one_line("glia-infer", debug=False):
        try:
            raise KeyboardInterrupt
        finally:
            raise errors.OutputError("scores.csv: no space left")
    assert (left.value.exit_code, capsys.readouterr().err) == (2, "glia-infer: scores.csv: no space left\n")


def test_a_bug_is_not_mistaken_for_a_picture_that_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as left, errors_on_one_line("glia-infer", debug=False):
        raise ZeroDivisionError("a bug")
    assert left.value.exit_code == 70
    assert capsys.readouterr().err.endswith("ZeroDivisionError: a bug\n")
    with pytest.raises(typer.Exit) as left, errors_on_one_line("glia-infer", debug=False):
        raise typer.Exit(1)
    assert left.value.exit_code == 1
