"""Models by name, and their checkpoints."""

from glia.models.backbone import load_backbone_weights
from glia.models.base import ModelConfig, QualityModel
from glia.models.checkpoint import load_checkpoint, save_checkpoint
from glia.models.glianet import PRESETS, GLIANet, GLIANetConfig
from glia.models.glintiqa import GlintIQA, GlintIQAConfig
from glia.models.registry import create_model, list_models, register_model
from glia.models.tuning import TunedViT

__all__ = [
    "PRESETS",
    "GLIANet",
    "GLIANetConfig",
    "GlintIQA",
    "GlintIQAConfig",
    "ModelConfig",
    "QualityModel",
    "TunedViT",
    "create_model",
    "list_models",
    "load_backbone_weights",
    "load_checkpoint",
    "register_model",
    "save_checkpoint",
]
