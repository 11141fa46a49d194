"""A model behind whole pictures: what a GPU is fed with, which makes the views of a batch in one launch."""

from torch import Tensor, nn

from glia.ops import padded_views
from glia_runtime.fragments import FragmentSpec


class PictureModel(nn.Module):
    """A model of `FragmentViews` behind pictures padded into one batch; both views come from `padded_views`.

    On CUDA that is one launch of a Triton kernel, which torch.export and AOTInductor take into what they compile; on
    the CPU plain torch. TorchScript files hold no such operator: they would load only where glia has been imported.

    Args:
        model: takes the views, values 0 to 255.
        spec: of the fragments.
    """

    def __init__(self, model: nn.Module, spec: FragmentSpec) -> None:
        super().__init__()
        self.model = model
        self.spec = spec

    def forward(self, images: Tensor, sizes: Tensor) -> Tensor:
        """Score a batch.

        Args:
            images: uint8 [B, H, W, 3]; the padding is never seen.
            sizes: int64 [B, 2], true heights and widths.

        Returns:
            float [B], as the model.

        Raises:
            RuntimeError: as `glia.ops.ragged_views`.
        """
        # Grey levels, in the dtype that the model computes in: float16 holds them exactly, and the model normalises.
        dtype = next(self.model.parameters()).dtype
        grid, fragment = self.spec.grid, self.spec.fragment
        zeros, ones = (0.0,) * 3, (1.0,) * 3
        views = padded_views(images, sizes, mean=zeros, std=ones, dtype=dtype, grid=grid, fragment=fragment)
        score: Tensor = self.model(*(view.permute(0, 2, 3, 1) for view in views))
        return score
