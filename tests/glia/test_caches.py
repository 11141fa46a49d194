"""What is kept on disk is what would be made again, for these very files and weights."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from glia.data import open_dataset
from glia.data.store import ArrayStore
from glia.data.views import GroupSampler, TrainingViews, training_loader
from glia.models import create_model, load_checkpoint
from glia.training.caches import compute_priors, picture_store, prior_store
from glia.training.fit import FitConfig
from glia.training.run import RunConfig, train
from glia_runtime.errors import DatasetError, OutputError, UsageError
from glia_runtime.view_spec import FragmentViews
from tests.glia.rated import small_run, write_rated

MODEL: dict[str, Any] = {"backbone": "test_vit", "latent_dim": 16, "heads": 2, "dropout": 0.0}


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rated(tmp_path_factory.mktemp("rated"), 10)


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def test_an_array_belongs_to_one_state_of_one_file(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"one")
    store = ArrayStore(tmp_path / "kept", "kind")
    assert store.read(picture) is None
    made = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(store.fetch(picture, lambda: made), made)
    np.testing.assert_array_equal(store.fetch(picture, lambda: made + 1), made)
    assert ArrayStore(tmp_path / "kept", "other").read(picture) is None
    (file,) = (tmp_path / "kept").rglob("*.npy")
    file.write_bytes(file.read_bytes()[:-4])
    assert store.read(picture) is None  # cut short
    np.testing.assert_array_equal(store.fetch(picture, lambda: made + 1), made + 1)
    file.unlink()
    file.mkdir()
    with pytest.raises(OutputError, match="cannot be read"):
        store.read(picture)
    picture.write_bytes(b"other")
    assert store.read(picture) is None
    with pytest.raises(OutputError, match="GB are free; choose another --cache"):
        store.check_space(10**18)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match="cannot keep arrays"):
        ArrayStore(blocked, "kind").write(picture, made)


def test_decoded_pictures_give_the_same_views(rated: Path, tmp_path: Path) -> None:
    dataset = open_dataset("csv", rated)
    spoken = quiet()
    store = picture_store(dataset, tmp_path, spoken)
    assert "10 still to come" in spoken.file.getvalue()  # type: ignore[attr-defined]
    for _ in range(2):  # filled, then read
        a, b = (
            next(
                training_loader(
                    TrainingViews(dataset, [], 0, FragmentViews(), pictures=kept),
                    GroupSampler(dataset.groups, 10, 1, 0),
                )
            )
            for kept in (None, store)
        )
        assert all(torch.equal(a[name], b[name]) for name in ("semantic", "detail", "score", "index"))
    assert len(list(tmp_path.rglob("*.npy"))) == 10


def test_cached_tokens_are_the_models_own(rated: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model(**MODEL)
    dataset = open_dataset("csv", rated)
    store = prior_store(model, tmp_path, torch.float32)
    where = FitConfig(steps=1), torch.device("cpu")
    spoken = quiet()
    compute_priors(model, dataset, store, *where, spoken)
    # 2 (mirrored) x 197 tokens x 64 channels x 2 bytes x 10 pictures
    assert "of 10 pictures: 0.00 GB" in spoken.file.getvalue() and "10 to be computed" in spoken.file.getvalue()  # type: ignore[attr-defined]
    sampler = GroupSampler(dataset.groups, 10, 1, 0)
    (plain,) = training_loader(TrainingViews(dataset, [], 0, FragmentViews()), sampler)
    (cached,) = training_loader(TrainingViews(dataset, [], 0, FragmentViews(), [("detail",)], priors=store), sampler)
    assert "semantic" not in cached and torch.equal(plain["detail"], cached["detail"])
    expected = model.prior(plain["semantic"])
    # float16 keeps 11 bits; tokens come out of a layer norm
    torch.testing.assert_close(cached["prior"].float(), expected, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        whole = model.predict(plain["semantic"], plain["detail"])
        torch.testing.assert_close(model.predict_from(expected, plain["detail"]), whole)
    again = quiet()
    compute_priors(model, dataset, store, *where, again)
    assert "0 to be computed" in again.file.getvalue()  # type: ignore[attr-defined]
    (path := dataset[0].path).touch()  # type: ignore[union-attr]
    assert path is not None and store.read(path) is None
    with pytest.raises(DatasetError, match=r"0\.png: changed"):
        list(training_loader(TrainingViews(dataset, [], 0, FragmentViews(), [("detail",)], priors=store), sampler))


def test_tokens_of_other_weights_or_arithmetic_are_others(rated: Path, tmp_path: Path) -> None:
    model = create_model(**MODEL)
    kinds = {prior_store(model, tmp_path, torch.float32).kind, prior_store(model, tmp_path, torch.bfloat16).kind}
    with torch.no_grad():
        model.get_parameter("backbone.blocks.0.attn.qkv.weight").add_(1e-3)
    kinds.add(prior_store(model, tmp_path, torch.float32).kind)
    with torch.no_grad():
        model.get_parameter("head.weight").add_(1)  # trained: the tokens do not depend on it
    kinds.add(prior_store(model, tmp_path, torch.float32).kind)
    assert len(kinds) == 3


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("glianet", {**MODEL, "guidance": "detail"}),
        ("glianet", {**MODEL, "token_drop": 0.5}),
        ("vpt", {"backbone": "test_vit"}),
    ],
)
def test_what_random_choices_reach_is_not_cached(name: str, fields: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"only where .*\(glianet with .*leave out --cache-tokens"):
        prior_store(create_model(name, **fields), tmp_path, torch.float32)


def test_drawn_pictures_have_no_tokens_to_cache(tmp_path: Path) -> None:
    config = RunConfig("synthetic", "glianet", dict(MODEL), pictures=1, validation_pictures=1, cache_tokens=True)
    with pytest.raises(UsageError, match="pictures in files; those of synthetic"):
        train(config, tmp_path / "run", None, False, quiet())
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("main", ["detail", "semantic"])
def test_training_from_cached_tokens_learns_the_same(rated: Path, tmp_path: Path, main: str) -> None:
    config = replace(small_run(rated, epochs=6, learning_rate=1e-3, evaluate_every=6), model={**MODEL, "main": main})
    plain, cached = (
        load_checkpoint(
            train(replace(config, cache_tokens=choice), tmp_path / str(choice), tmp_path / "cache", False, quiet())
        )
        for choice in (False, True)
    )
    assert not (tmp_path / "True" / "tokens").exists() and len(list((tmp_path / "cache").rglob("*.npy"))) > 0
    torch.manual_seed(config.fit.seed)
    start = create_model(**config.model).eval()
    views = torch.randint(0, 256, (2, 4, 224, 224, 3), dtype=torch.uint8)
    with torch.no_grad():
        a, b, untrained = (model.predict(*views) for model in (plain, cached, start))
    # What is learnt is far above what float16 tokens change (1 part in 2000, through six steps).
    assert (a - b).abs().max() < 0.02 * (a - untrained).abs().max()
