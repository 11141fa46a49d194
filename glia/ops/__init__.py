"""The operators. Importing this package registers them under `torch.ops.glia`; no GPU or Triton needed."""

from glia.ops.fragment_sample_ragged import fragment_sample_ragged, pack_ragged

__all__ = ["fragment_sample_ragged", "pack_ragged"]
