"""The in-graph resize against the runtime's, which is Pillow's."""

import numpy as np
import pytest
import torch

from glia.ops.resize import bicubic_resize, resampling_weights
from glia_export.graphs import gather_fragments
from glia_runtime.fragments import FragmentSpec, Image, fragment_sample
from glia_runtime.views import enlarge, semantic_view
from tests.shapes import AWKWARD_SHAPES, noise_image

# Those that one padded batch can hold; the longest sides are tested by their weights below.
SHAPES = sorted({enlarge(noise_image(*shape)).shape[:2] for shape in AWKWARD_SHAPES if shape != (6000, 4000)})
SHAPES = [shape for shape in SHAPES if max(shape) <= 1100]


def pad(images: list[Image]) -> tuple[torch.Tensor, torch.Tensor]:
    """One batch, with 255 where no graph may look."""
    sizes = np.array([image.shape[:2] for image in images])
    batch = np.full((len(images), *sizes.max(0), 3), 255, dtype=np.uint8)
    for row, image in zip(batch, images, strict=True):
        row[: image.shape[0], : image.shape[1]] = image
    return torch.from_numpy(batch), torch.from_numpy(sizes)


def test_mixed_sizes_in_one_batch_are_the_runtimes_views() -> None:
    images = [noise_image(*shape) for shape in SHAPES]
    made = bicubic_resize(*pad(images), 224)
    assert made.dtype == torch.float32 and made.shape == (len(images), 224, 224, 3)
    for shape, one, image in zip(SHAPES, made.numpy(), images, strict=True):
        difference = np.abs(one - semantic_view(image).astype(np.float32))
        assert difference.max() <= 1, shape
        # A float32 sum lands on the other side of a half in some 10 of 150,528 values (seen: 20 at most).
        assert np.count_nonzero(difference) <= 100, shape


def test_a_picture_of_the_target_size_passes_unchanged() -> None:
    image = noise_image(224, 224)
    assert np.array_equal(bicubic_resize(*pad([image, noise_image(300, 260)]), 224)[0], image)


def test_extremes_are_clamped() -> None:
    stripes = np.zeros((224, 301, 3), np.uint8)
    stripes[:, np.arange(301) % 16 < 8] = 255  # bicubic overshoots at every edge
    made = bicubic_resize(*pad([stripes]), 224)[0].numpy()
    assert made.min() == 0 and made.max() == 255
    assert np.abs(made - semantic_view(stripes)).max() <= 1


@pytest.mark.parametrize("size", [224, 225, 1000, 6000, 67_200])
def test_weights_of_a_row_sum_to_one(size: int) -> None:
    weights = resampling_weights(torch.tensor([size]), size + 3, 224)[0].double()
    taps = (weights != 0).sum(-1).max().item()
    # Each weight is rounded to 2^-22, and so is off by half of that at most.
    assert (weights.sum(-1) - 1).abs().max() <= taps * 2**-23
    assert not weights[:, size:].any()
    assert taps <= 4 * max(1, size / 224) + 1


@pytest.mark.parametrize("shape", SHAPES)
def test_gathered_fragments_are_the_references(shape: tuple[int, int]) -> None:
    images = [noise_image(*shape), noise_image(230, 501)]
    made = gather_fragments(*pad(images), FragmentSpec())
    assert made.dtype == torch.uint8
    for one, image in zip(made, images, strict=True):
        assert np.array_equal(one, fragment_sample(image))
