"""Another architecture, shown crops in place of two views, through the same exporter, runtime and benchmarks."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from glia.models import QualityModel, create_model, save_checkpoint
from glia_bench.cli import app
from glia_export import export_checkpoint
from glia_export.engine_options import EngineOptions
from glia_export.graphs import gather_crops
from glia_export.parity import BOUNDS
from glia_runtime import FragmentSpec, Scorer, UsageError, enlarge, read_manifest
from glia_runtime.manifest import InputKind, Precision, ScoreScale, Target
from glia_runtime.view_spec import CropViews
from tests.glia_export.conftest import needs_rtx
from tests.shapes import noise_image
