"""Pictures drawn by rule, damaged in 25 published ways, labelled by published metrics: no files needed."""

from glia.data.synthetic.dataset import RECIPE, DrawnFor, SyntheticDataset, open_synthetic
from glia.data.synthetic.distortions import (
    COMMON_DISTORTIONS,
    DISTORTIONS,
    KADID_DISTORTIONS,
    LEVELS,
    distort,
)
from glia.data.synthetic.labels import quality
from glia.data.synthetic.pictures import draw_picture

__all__ = [
    "COMMON_DISTORTIONS",
    "DISTORTIONS",
    "KADID_DISTORTIONS",
    "LEVELS",
    "RECIPE",
    "DrawnFor",
    "SyntheticDataset",
    "distort",
    "draw_picture",
    "open_synthetic",
    "quality",
]
