"""Pictures looked at before hours are spent on them."""

from rich.console import Console
from torch.utils.data import Dataset as TorchDataset

from glia.data.samples import Dataset
from glia.data.views import Drawn, read_all
from glia.training.log import progress
from glia_runtime.errors import DatasetError, GliaError
from glia_runtime.views import enlarge

_NAMED = 5


def check_files(dataset: Dataset) -> None:
    """Refuse a dataset of which files are missing; a matter of milliseconds.

    Raises:
        DatasetError: how many are missing, and the first of them with their rows.
    """
    missing = [
        f"row {index + 1}: {path}"
        for index in range(len(dataset))
        if (path := dataset[index].path) is not None and not path.is_file()
    ]
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(dataset)} pictures of {dataset.name} are missing ({_first(missing)}); "
            "put them there, or take out their rows"
        )


def check_pictures(dataset: Dataset, workers: int, console: Console) -> None:
    """Decode every picture, print a line for each that cannot be used, and refuse the dataset if there is one.

    Raises:
        DatasetError: how many cannot be used.
    """
    bad = 0
    with progress(console, len(dataset), 0) as advance:
        for index, found in enumerate(read_all(_Usable(dataset), workers)):
            if isinstance(found, GliaError):
                bad += 1
                console.print(f"row {index + 1}: {found}", highlight=False, soft_wrap=True, markup=False)
            advance("checking pictures")
    if bad:
        raise DatasetError(
            f"{bad} of {len(dataset)} pictures of {dataset.name} cannot be used; mend or take out their rows"
        )
    console.print(f"{len(dataset)} pictures of {dataset.name} are fine", highlight=False)


class _Usable(TorchDataset[Drawn]):
    """For each picture nothing, or what is wrong with it."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Drawn:
        try:
            enlarge(self.dataset[index].image)
        except GliaError as error:
            return error
        return {}


def _first(lines: list[str]) -> str:
    more = f", and {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
    return ", ".join(lines[:_NAMED]) + more
