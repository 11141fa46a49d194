"""Pictures looked at before hours are spent on them."""

from rich.console import Console
from torch.utils.data import Dataset as TorchDataset

from glia.data.samples import Dataset
from glia.data.views import Drawn, read_all
from glia.training.log import progress
from glia_runtime.errors import DatasetError, GliaError
from glia_runtime.views import enlarge


def check_pictures(dataset: Dataset, workers: int, console: Console) -> None:
    """Decode every picture, print a line for each that cannot be used, and refuse the dataset if there is one.

    Raises:
        DatasetError: how many cannot be used.
    """
    bad = 0
    with progress(console, "checking pictures", len(dataset)) as advance:
        for index, found in enumerate(read_all(_Usable(dataset), workers)):
            if isinstance(found, GliaError):
                bad += 1
                row = dataset[index].row
                console.print(f"{row}: {found}" if row else f"{found}", highlight=False, soft_wrap=True, markup=False)
            advance()
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
