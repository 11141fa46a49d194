"""What is read of a dataset before training starts."""

import io

import pytest
from rich.console import Console

from glia.data.synthetic import SyntheticDataset
from glia.training.labels import labelled_samples


def test_drawing_the_first_series_is_told_without_a_terminal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glia.training.log._PAUSE", 0)
    told = io.StringIO()
    samples = labelled_samples(SyntheticDataset(2), Console(file=told))
    assert [sample.level for sample in samples].count(0) == 2 and len(samples) == 12
    assert "reading labels 1 of 2  left 0:00" in told.getvalue()
