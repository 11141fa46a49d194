"""The operators. Importing this package registers them under `torch.ops.glia`; no GPU or Triton needed."""

from glia.ops.fragment_sample_ragged import fragment_sample_ragged, pack_ragged
from glia.ops.views import padded_views, ragged_views

__all__ = ["fragment_sample_ragged", "pack_ragged", "padded_views", "ragged_views"]
