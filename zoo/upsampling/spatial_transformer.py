"""Spatial transformer: learning where to look by differentiable resampling (Jaderberg et al., arXiv 1506.02025)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.numerics import without_autocast

#: Parameters of each transformation, and their values at the identity.
TRANSFORMS: dict[str, tuple[float, ...]] = {
    "affine": (1, 0, 0, 0, 1, 0),
    "attention": (1, 0, 0),
    "projective": (1, 0, 0, 0, 1, 0, 0, 0),
    "tps": (),
}


def grid_points(height: int, width: int, align_corners: bool, like: Tensor) -> Tensor:
    """Target coordinates ``(H W, 2)`` as (x, y) in [-1, 1], rows slowest."""

    def axis(n: int) -> Tensor:
        steps = torch.arange(n, device=like.device, dtype=like.dtype)
        return steps * 2 / max(n - 1, 1) - (1 if n > 1 else 0) if align_corners else (2 * steps + 1) / n - 1

    y, x = torch.meshgrid(axis(height), axis(width), indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


def _radial(a: Tensor, b: Tensor) -> Tensor:
    """Thin-plate kernel ``r^2 log r^2`` between ``(P, 2)`` and ``(K, 2)``; 0 with a finite gradient at r = 0."""
    r2 = (a.unsqueeze(-2) - b.unsqueeze(-3)).square().sum(-1)
    return r2 * r2.clamp_min(torch.finfo(r2.dtype).tiny).log()


class SpatialTransformer(nn.Module):
    r"""Localise, make a sampling grid, sample: a front end for any backbone.

    .. math:: \theta = f_{loc}(U), \qquad (x^s, y^s) = \mathcal T_\theta(x^t, y^t), \qquad
              V_c(x^t, y^t) = \sum_{n,m} U_c(n, m)\, \max(0, 1 - |x^s - m|)\, \max(0, 1 - |y^s - n|)

    Transformations map **output** to **input** coordinates in [-1, 1]: a scale below 1 zooms in.

    - ``affine``: six numbers, equation (1).
    - ``attention``: scale and two shifts, equation (2).
    - ``projective``: eight numbers, with a division by :math:`1 + \theta_7 x + \theta_8 y`.
    - ``tps``: thin-plate spline through a regular grid of control points, whose displacements are predicted.

    The last layer starts at zero, so that the module begins as the identity. Grid and sampling run in float32.

    Args:
        in_channels: C of ``(N, C, H, W)``.
        transform: one of the four.
        hidden: channels of the small default localiser.
        output_size: ``(H', W')``; by default the input's.
        control_points: K for a K x K grid of the spline.
        localiser: module from ``(N, C, H, W)`` to ``(N, features)`` in place of the default.
        localiser_features: its output features, needed with ``localiser``.
        align_corners: whether -1 and 1 are centres of the corner pixels (True: the paper's time) or their edges.
        padding_mode: of ``F.grid_sample``, for samples outside.

    Attributes:
        out_channels: C.

    Raises:
        ValueError: an unknown transform, sizes below their least, ``localiser`` without ``localiser_features``, or an
            input that is not ``(N, in_channels, H, W)``.
    """

    control: Tensor
    solver: Tensor

    def __init__(
        self,
        in_channels: int,
        transform: str = "affine",
        hidden: int = 16,
        output_size: Sequence[int] | None = None,
        control_points: int = 4,
        localiser: nn.Module | None = None,
        localiser_features: int | None = None,
        align_corners: bool = False,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        if transform not in TRANSFORMS:
            raise ValueError(f"spatial_transformer takes transform {', '.join(TRANSFORMS)}, received {transform!r}")
        if in_channels < 1 or hidden < 1 or control_points < 2:
            raise ValueError(
                "spatial_transformer needs in_channels, hidden >= 1 and control_points >= 2, received "
                f"{in_channels}, {hidden} and {control_points}"
            )
        if (localiser is None) != (localiser_features is None):
            raise ValueError("spatial_transformer needs localiser and localiser_features together, or neither")
        self.in_channels = self.out_channels = in_channels
        self.transform, self.align_corners, self.padding_mode = transform, align_corners, padding_mode
        self.output_size = tuple(output_size) if output_size is not None else None
        self.localiser = localiser or nn.Sequential(
            nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(64 * in_channels, hidden), nn.ReLU(inplace=True)
        )
        count = 2 * control_points**2 if transform == "tps" else len(TRANSFORMS[transform])
        self.head = nn.Linear(localiser_features or hidden, count)
        if transform == "tps":
            points = grid_points(
                control_points, control_points, True, torch.zeros((), dtype=torch.float64, device="cpu")
            )
            k = len(points)
            system = torch.zeros(k + 3, k + 3, dtype=torch.float64, device="cpu")
            system[:k, :k] = _radial(points, points)
            system[:k, k], system[:k, k + 1 :] = 1, points
            system[k:, :k] = system[:k, k:].T
            # The spline is linear in the displacements: invert once, keep the columns that multiply them.
            solver = torch.linalg.inv(system)[:, :k]
            self.register_buffer("control", points.float())
            self.register_buffer("solver", solver.float())
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Zero weights; the bias of the last layer is the identity (no displacement for the spline)."""
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            identity = TRANSFORMS[self.transform] or (0.0,) * self.head.out_features
            self.head.bias.copy_(torch.tensor(identity, dtype=self.head.bias.dtype, device=self.head.bias.device))

    def grid(self, theta: Tensor, height: int, width: int) -> Tensor:
        """Sampling grid ``(N, H, W, 2)`` of source coordinates (x, y) for parameters ``(N, P)``."""
        target = grid_points(height, width, self.align_corners, theta)
        n = theta.shape[0]
        ones = torch.ones_like(target[:, :1])
        if self.transform == "affine":
            source = torch.cat([target, ones], 1) @ theta.view(n, 2, 3).mT
        elif self.transform == "attention":
            source = theta[:, None, :1] * target + theta[:, None, 1:]
        elif self.transform == "projective":
            full = torch.cat([theta, torch.ones_like(theta[:, :1])], 1).view(n, 3, 3)
            homogeneous = torch.cat([target, ones], 1) @ full.mT
            depth = homogeneous[..., 2:]
            # Points on the horizon have no finite source; the sign keeps both sides apart.
            depth = torch.where(depth.abs() < 1e-6, torch.where(depth < 0, -1e-6, 1e-6).to(depth.dtype), depth)
            source = homogeneous[..., :2] / depth
        else:
            control, solver = self.control.to(theta.dtype), self.solver.to(theta.dtype)
            basis = torch.cat([_radial(target, control), ones, target], 1)
            source = target + (basis @ solver) @ theta.view(n, -1, 2)
        return source.view(n, height, width, 2)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"spatial_transformer was made for (N, {self.in_channels}, H, W), received {tuple(x.shape)}"
            )
        theta = self.head(self.localiser(x))
        with without_autocast(x.device.type):
            wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
            height, width = self.output_size or x.shape[2:]
            grid = self.grid(theta.to(wide.dtype), height, width)
            y = F.grid_sample(wide, grid, "bilinear", self.padding_mode, self.align_corners)
        return y.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, transform={self.transform!r}, align_corners={self.align_corners}"
