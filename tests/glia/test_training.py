"""The loop: it learns, resumes to the bit, stops on nonsense, and leaves nothing half-written."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from glia.data import Sample
from glia.data.synthetic import SyntheticDataset
from glia.data.views import GroupSampler, TrainingViews, training_loader
from glia.models import create_model, load_checkpoint
from glia.training.distributed import Processes
from glia.training.fit import FitConfig, fit
from glia.training.run import RunConfig, train
from glia.training.tasks import QualityTask
from glia_runtime.errors import CheckpointError, GliaError, OutputError, UsageError
from glia_runtime.manifest import ScoreScale
from glia_runtime.view_spec import FragmentViews

FIT = FitConfig(steps=4, batch_size=10, learning_rate=1e-3, evaluate_every=2)
RUN = RunConfig(
    dataset="synthetic",
    pictures=2,
    validation_pictures=1,
    architecture="glianet",
    model={"backbone": "test_vit", "latent_dim": 16, "heads": 2},
    backbone_weights="",
    pretrain_backbone=False,
    fit=FIT,
)
BACKBONE_RUN = replace(RUN, model={"backbone": "test_vit"}, pretrain_backbone=True)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("synthetic")


def quiet() -> Console:
    return Console(file=io.StringIO())


def test_batches_keep_series_together_and_repeat_from_any_step() -> None:
    groups = [range(start, start + 5) for start in range(0, 100, 5)]
    whole = list(GroupSampler(groups, 20, 10, seed=3))
    assert list(GroupSampler(groups, 20, 10, seed=3, start=6)) == whole[6:]
    assert list(GroupSampler(groups, 20, 10, seed=4)) != whole
    for batch in whole:
        assert len(batch) == 20
        assert all(index // 5 == group for index, _, group in batch)
    # five batches are one epoch of twenty groups
    assert sorted(index for batch in whole[:5] for index, _, _ in batch) == list(range(100))


def test_augmentation_depends_on_seed_step_and_group_alone(cache: Path) -> None:
    dataset = SyntheticDataset(2, 0, cache)
    views = TrainingViews(dataset, ["jpeg"], 1, FragmentViews())
    whole = list(training_loader(views, GroupSampler(dataset.groups, 12, 3, seed=1)))
    tail = list(training_loader(views, GroupSampler(dataset.groups, 12, 3, seed=1, start=2), workers=2))
    assert all(torch.equal(whole[2][name], tail[0][name]) for name in tail[0])
    assert whole[0]["semantic"].shape == whole[0]["detail"].shape == (12, 224, 224, 3)
    in_turn = TrainingViews(dataset, ["jpeg"], 1, FragmentViews(), [("detail",), ("semantic",)])
    for step, batch in enumerate(training_loader(in_turn, GroupSampler(dataset.groups, 12, 3, seed=1))):
        shown, other = ("semantic", "detail") if step == 1 else ("detail", "semantic")
        assert torch.equal(batch[shown], whole[step][shown]) and other not in batch


def test_samples_of_a_group_are_cut_at_the_same_places(cache: Path) -> None:
    class Repeated:
        """One picture under four indices, in two groups."""

        name = NoiseLevels.name
        scale = NoiseLevels.scale
        groups = [range(2), range(2, 4)]  # noqa: RUF012 (a constant)
        picture = SyntheticDataset(2, 0, cache)[0].image

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Sample:
            return Sample(self.picture, score=index, reference="")

    repeated = Repeated()
    (batch,) = training_loader(
        TrainingViews(repeated, [], 0, FragmentViews()), GroupSampler(repeated.groups, 4, 1, seed=0)
    )
    same, other = (batch["detail"][batch["group"] == group] for group in (0, 1))
    assert torch.equal(same[0], same[1]) and torch.equal(other[0], other[1])
    assert not torch.equal(same[0], other[0])
    assert batch["level"].isnan().all() and (batch["distortion"] == -1).all()


class NoiseLevels:
    """Grey pictures under rising noise: as easy a task as there is."""

    name = "noise"
    scale = ScoreScale(0.0, 5.0, True, "noise")
    groups = [range(start, start + 5) for start in range(0, 20, 5)]  # noqa: RUF012 (a constant)

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Sample:
        noise = np.random.default_rng(index).normal(0, 10 * (index % 5), (224, 224, 3))
        image = np.clip(128 + noise, 0, 255).astype(np.uint8)
        return Sample(image, score=5.0 - index % 5, reference=str(index // 5))


def test_an_error_in_a_worker_is_the_error_itself(cache: Path) -> None:
    class Broken(NoiseLevels):
        def __getitem__(self, index: int) -> Sample:
            raise OutputError(f"sample {index} cannot be had")

    for workers in (0, 1):
        with pytest.raises(OutputError, match=r"^sample \d+ cannot be had$"):
            next(
                training_loader(
                    TrainingViews(Broken(), [], 0, FragmentViews()), GroupSampler(Broken.groups, 5, 1, 0), workers
                )
            )


def test_learns_to_tell_noise_levels_apart(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = QualityTask(create_model("glianet", **RUN.model, dropout=0.0), NoiseLevels.scale, 3.0, 1.4)
    config = replace(FIT, steps=12, learning_rate=3e-3, evaluate_every=12)
    best = fit(task, NoiseLevels(), NoiseLevels(), config, tmp_path, quiet(), {})
    # A model that learns nothing stays near 0; a random frozen backbone is enough to do far better.
    assert best["srcc"] > 0.8


def weights(made: Path) -> dict[str, torch.Tensor]:
    """What a run made with its last step, a model or a backbone."""
    last = made.with_name(f"last{made.suffix}")
    return load_file(last) if last.suffix == ".safetensors" else load_checkpoint(last).state_dict()


@pytest.mark.parametrize("run", [RUN, BACKBONE_RUN], ids=["model", "backbone"])
def test_interrupted_and_resumed_equals_uninterrupted(
    run: RunConfig, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = weights(train(run, tmp_path / "whole", cache, False, quiet()))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("glia.training.log.Log.append", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(run, tmp_path / "parts", cache, False, quiet())
    assert sorted(p.name for p in (tmp_path / "parts").iterdir()) == ["run.json"]
    monkeypatch.undo()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    real = torch.optim.AdamW.step
    calls = []

    def stop_at_the_fourth_step(*args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.optim.AdamW, "step", stop_at_the_fourth_step)
    with pytest.raises(KeyboardInterrupt):
        train(run, tmp_path / "parts", cache, True, quiet())
    monkeypatch.setattr(torch.optim.AdamW, "step", real)
    parts = weights(train(run, tmp_path / "parts", cache, True, quiet()))
    for (name, a), b in zip(whole.items(), parts.values(), strict=True):
        assert torch.equal(a, b), name
    with (tmp_path / "parts" / "metrics.csv").open() as file:
        before, after = (float(row["seconds"]) for row in csv.DictReader(file))
    assert after > before  # the clock goes on, too


def test_what_another_version_drew_is_not_gone_on_with(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = train(RUN, tmp_path / "run", cache, False, quiet()).parent
    with monkeypatch.context() as patch:
        patch.setattr("glia.training.run._DRAWN", "drawn, recipe 0")
        with pytest.raises(UsageError, match="pictures that another version of glia drew; choose another --out"):
            train(RUN, out, cache, True, quiet())
    assert train(RUN, out, cache, True, quiet()).exists()


def test_a_loss_that_is_not_finite_stops_the_run(cache: Path, tmp_path: Path) -> None:
    dataset = SyntheticDataset(1, 0, cache)
    task = QualityTask(create_model("glianet", **RUN.model), dataset.scale, 0.0, 1.0)
    with torch.no_grad():
        task.module.get_parameter("head.weight").fill_(torch.inf)
    with pytest.raises(GliaError, match="step 0"):
        fit(task, dataset, dataset, FIT, tmp_path, quiet(), {})
    assert not list(tmp_path.glob("*.pt"))


def test_refuses_to_mix_runs(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(RUN, out, cache, False, quiet())
    record = json.loads((out / "run.json").read_text())
    assert record["config"]["pictures"] == 2 and record["versions"]["torch"]
    with pytest.raises(OutputError, match="--resume"):
        train(RUN, out, cache, False, quiet())
    with pytest.raises(UsageError, match="another pictures"):
        train(replace(RUN, pictures=3), out, cache, True, quiet())
    tuned = {name: RUN.model[name] for name in ("backbone", "heads")}
    with pytest.raises(UsageError, match="another latent_dim;"):
        train(replace(RUN, model=tuned), out, cache, True, quiet())
    with pytest.raises(UsageError, match="no run to resume"):
        train(RUN, tmp_path / "other", cache, True, quiet())
    (out / "run.json").rename(tmp_path / "run.json")
    with pytest.raises(OutputError, match=r"run\.json is gone"):
        train(RUN, out, cache, False, quiet())
    (tmp_path / "run.json").rename(out / "run.json")
    (out / "resume.pt").write_bytes(b"cut short")
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        train(RUN, out, cache, True, quiet())
    with pytest.raises(CheckpointError, match=r"none\.pt"):
        train(replace(RUN, backbone_weights="none.pt"), tmp_path / "free", cache, False, quiet())
    assert not (tmp_path / "free" / "run.json").exists()  # the corrected command may use the same folder
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        train(RUN, blocked / "run", cache, False, quiet())


def test_pretrained_backbone_serves_a_model(cache: Path, tmp_path: Path) -> None:
    alone = replace(RUN, model={"backbone": "test_vit"}, pretrain_backbone=True)
    made = train(alone, tmp_path / "backbone", cache, False, quiet())
    assert made.name == "backbone.safetensors"
    frozen = train(replace(RUN, backbone_weights=str(made)), tmp_path / "model", cache, False, quiet())
    model = load_checkpoint(frozen)
    from safetensors.torch import load_file

    weights = load_file(made)
    assert torch.equal(model.state_dict()["backbone.blocks.0.attn.qkv.weight"], weights["blocks.0.attn.qkv.weight"])
    again = replace(alone, backbone_weights=str(made), fit=replace(FIT, learning_rate=0.0))
    kept = load_file(train(again, tmp_path / "again", cache, False, quiet()))
    assert all(torch.equal(kept[name], weights[name]) for name in weights)


def test_refuses_what_would_have_no_effect() -> None:
    for options, says in (
        ({"root": "a", "train_share": 0.2}, "root, train_share: for datasets of files"),
        ({"split": "official"}, "split: for datasets of files"),
        ({"lower_is_better": True}, "lower_is_better: for datasets of files"),
        ({"pretrain_backbone": True, "architecture": "vpt"}, "not as vpt's"),
    ):
        with pytest.raises(UsageError, match=says):
            replace(RUN, **options)


def test_refuses_more_pictures_to_evaluate_on_than_memory_holds(tmp_path: Path) -> None:
    class Millions(NoiseLevels):
        def __len__(self) -> int:
            return 1_250_000

    task = QualityTask(create_model("glianet", **RUN.model), NoiseLevels.scale, 3.0, 1.4)
    with pytest.raises(UsageError, match="1250000 pictures; at most 50000"):
        fit(task, NoiseLevels(), Millions(), FIT, tmp_path, quiet(), {})


def test_refuses_a_batch_that_some_process_has_no_part_of() -> None:
    config = replace(FIT, batch_size=5)  # of which a group is
    config.check(NoiseLevels(), NoiseLevels(), Processes(0, 5, torch.device("cpu")))
    with pytest.raises(UsageError, match="6 processes cannot share a batch of 5"):
        config.check(NoiseLevels(), NoiseLevels(), Processes(0, 6, torch.device("cpu")))
