"""What an architecture is shown of a picture: GLIANet's two views, or GlintIQA's crops.

A model carries its specification, and so does an artifact's manifest. Preprocessing, training, export, the parity
report and the benchmarks ask it what to make of a picture, and know nothing of architectures.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from glia_runtime.fragments import FragmentSpec, Image, fragment_sample
from glia_runtime.views import as_picture, enlarge, enlarged, pixels, sample_views, semantic_view

Views = tuple[Image, ...]
"""What one picture becomes, an array for each of `ViewSpec.names`, of the shapes that `ViewSpec.shape` says."""


class Draw(NamedTuple):
    """Views to train on, by name, and whether they show the picture's mirror image."""

    views: dict[str, Image]
    mirrored: bool


class ViewSpec(ABC):
    """What a model is shown of a picture."""

    names: ClassVar[tuple[str, ...]]
    """Of the views, in the order in which `QualityModel.forward` takes them."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of each view of one picture when scoring, uint8, colours last."""

    @property
    def size(self) -> int:
        """Side of what the network computes on, in pixels."""
        return self.shape[-2]

    @property
    def looks(self) -> int:
        """How many times as much as for one look the network computes: what a batch has to be smaller by."""
        return int(np.prod(self.shape[:-3]))

    @property
    def quick(self) -> ViewSpec:
        """What to evaluate by between the steps of a training: the same, or looking less often."""
        return self

    @property
    @abstractmethod
    def about(self) -> str:
        """In words, for ``glia-infer --info``."""

    @abstractmethod
    def manifest_fields(self) -> dict[str, Any]:
        """The fields of `glia_runtime.manifest.Manifest` that say so."""

    @abstractmethod
    def sample(self, image: Image | PillowImage.Image, *, draft: bool = False) -> Views:
        """The views to score by, the same every time; the picture is enlarged where needed.

        Args:
            image: uint8 [H, W, 3], or a Pillow picture of mode RGB or RGBX.
            draft: make a semantic view faster, see `glia_runtime.views.sample_views`; other views stay as they are.

        Raises:
            ImageError: no such picture, or too narrow to enlarge.
        """

    @abstractmethod
    def draw(self, image: Image, rng: np.random.Generator, names: Sequence[str] | None = None) -> Draw:
        """Views to train on, drawn from `rng`; where scoring takes several crops, one.

        Args:
            image: uint8 [H, W, 3].
            rng: equal states give equal places and turns, whatever the pixels and the names.
            names: the views wanted; None for all.

        Raises:
            ImageError: as `sample`.
        """


@dataclass(frozen=True)
class FragmentViews(ViewSpec):
    """GLIANet's: the picture resized as a whole, and a mosaic of fragments at full resolution."""

    names = ("semantic", "detail")
    fragments: FragmentSpec = field(default_factory=FragmentSpec)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.fragments.size, self.fragments.size, 3

    @property
    def about(self) -> str:
        return f"fragments {self.fragments.grid}x{self.fragments.grid} of {self.fragments.fragment} pixels"

    def manifest_fields(self) -> dict[str, Any]:
        return {"fragment_spec": self.fragments}

    def sample(self, image: Image | PillowImage.Image, *, draft: bool = False) -> Views:
        return sample_views(image, draft=draft, spec=self.fragments)

    def draw(self, image: Image, rng: np.random.Generator, names: Sequence[str] | None = None) -> Draw:
        """Fragments at FAST-VQA's random offsets, uniform within a cell, and mirror images."""
        image = enlarge(image)
        mirrored = bool(rng.random() < 0.5)
        offsets = self.fragments.draw_offsets(image.shape[0], image.shape[1], rng)
        makers = {
            "semantic": lambda: semantic_view(image),
            "detail": lambda: fragment_sample(image, offsets, self.fragments),
        }
        views = {name: makers[name]() for name in names or self.names}
        return Draw({n: np.ascontiguousarray(v[:, ::-1]) if mirrored else v for n, v in views.items()}, mirrored)


@dataclass(frozen=True)
class CropViews(ViewSpec):
    """GlintIQA's: square crops at full resolution, whose scores the model averages.

    For scoring `grid` x `grid` of them spread evenly, from edge to edge. The authors draw 25 at random; here a score is
    the same every time, which the parity report, the probe and whoever compares two runs stand on, and the whole
    picture counts. In training one, anywhere, mirrored and turned over at random.
    """

    names = ("crops",)
    grid: int = 5
    crop: int = 224

    @property
    def shape(self) -> tuple[int, ...]:
        return self.grid**2, self.crop, self.crop, 3

    @property
    def quick(self) -> ViewSpec:
        """The four corners: 25 crops of each picture would take longer than the steps between."""
        return replace(self, grid=min(self.grid, 2))

    @property
    def about(self) -> str:
        return f"the mean over {self.grid}x{self.grid} crops of {self.crop} pixels"

    def manifest_fields(self) -> dict[str, Any]:
        return {"crop_views": self}

    @property
    def placement(self) -> tuple[int, int]:
        """(first, parts): crop i begins after ``first + i`` of as many parts of what a side has more than `crop`."""
        return (0, self.grid - 1) if self.grid > 1 else (1, 2)

    def starts(self, side: int) -> npt.NDArray[np.int64]:
        """First pixels of the crops along a side of `side` pixels, at least `crop`: int64 [grid], ascending.

        ``floor((first + i) * (side - crop) / parts)``: from one edge to the other, both included.
        One alone lies in the middle.
        """
        first, parts = self.placement
        return np.arange(first, first + self.grid, dtype=np.int64) * (side - self.crop) // parts

    def sample(self, image: Image | PillowImage.Image, *, draft: bool = False) -> Views:
        picture = enlarged(as_picture(image))
        corners = [(int(x), int(y)) for y in self.starts(picture.height) for x in self.starts(picture.width)]
        crops = [pixels(picture.crop((x, y, x + self.crop, y + self.crop))) for x, y in corners]
        return (np.stack(crops),)

    def draw(self, image: Image, rng: np.random.Generator, names: Sequence[str] | None = None) -> Draw:
        image = enlarge(image)
        mirrored, overturned = rng.random(2) < 0.5
        top, left = (int(rng.integers(0, side - self.crop, endpoint=True)) for side in image.shape[:2])
        crop = image[top : top + self.crop, left : left + self.crop]
        crop = crop[:: -1 if overturned else 1, :: -1 if mirrored else 1]
        return Draw({"crops": np.ascontiguousarray(crop)[None]}, bool(mirrored))
