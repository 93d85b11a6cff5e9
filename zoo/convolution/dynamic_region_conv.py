"""DRConv: every position picks one of m filters that were generated from its image (Chen et al., arXiv 2003.12243)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.convolution._regions import dense, region_product

Pair = tuple[int, int]
_GENERATORS = ("paper", "experts")


class DynamicRegionConv2d(nn.Module):
    r"""Region-aware convolution with generated filters and a learned guide.

    .. math:: F = G * x, \qquad M_{u,v} = \arg\max_t F_{t,u,v}, \qquad Y_{u,v} = W_{M_{u,v}}(x) * X_{u,v}

    The choice is hard in the forward pass. Backward, the guide sees :math:`\hat M = \operatorname{softmax}_t(F)`:

    .. math:: \frac{\partial L}{\partial \hat M^t_{u,v}} = \Bigl\langle \frac{\partial L}{\partial Y_{u,v}},\;
              W_t * X_{u,v} \Bigr\rangle

    so that regions which lost at a position have a gradient too; a plain gather would give the guide none. On the CPU
    positions are sorted by region, so that the forward pass and the gradients of input and filters have the work of one
    convolution each and only the guide's gradient that of m. With three regions or fewer of a larger kernel, where sorting
    does not pay, and on other devices, one grouped convolution gives all m responses.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size, stride, padding, dilation, groups, bias: as ``nn.Conv2d``; the guide uses the same geometry.
        num_regions: m (paper: 8).
        generator: ``"paper"``: the input averaged to k x k, a 1 x 1 convolution to m^2 channels, sigmoid, and a 1 x 1
            convolution in m groups to the filters. ``"experts"``: what the authors' code does instead, a sum of
            ``num_experts`` learned filters for each region with weights ``2 sigmoid(linear(mean(x))) / num_experts``.
        num_experts: for ``"experts"`` (authors' code: 8).

    Raises:
        ValueError: sizes below 1, groups that do not divide, another generator, or an input that
            is not ``(N, in_channels, H, W)``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        num_regions: int = 8,
        generator: str = "paper",
        num_experts: int = 8,
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels, num_regions, num_experts) < 1:
            raise ValueError(
                "dynamic_region_conv needs in_channels, out_channels, num_regions, num_experts >= 1, received "
                f"{in_channels}, {out_channels}, {num_regions} and {num_experts}"
            )
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"dynamic_region_conv needs groups that divide {in_channels} and {out_channels}, received {groups}"
            )
        if generator not in _GENERATORS:
            raise ValueError(f"dynamic_region_conv takes generator {', '.join(_GENERATORS)}, received {generator!r}")
        # The guide is an ordinary convolution, which also resolves the geometry.
        self.guide = nn.Conv2d(in_channels, num_regions, kernel_size, stride, padding, dilation, bias=False)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.num_regions, self.generator, self.num_experts = num_regions, generator, num_experts
        self.filter_shape = (out_channels, in_channels // groups, *self.guide.kernel_size)
        m, per_filter = num_regions, out_channels * (in_channels // groups)
        if generator == "paper":
            self.squeeze = nn.Conv2d(in_channels, m * m, 1)
            self.expand = nn.Conv2d(m * m, m * per_filter, 1, groups=m)
        else:
            self.route = nn.Linear(in_channels, m * num_experts)
            self.experts = nn.Parameter(torch.empty(m, num_experts, *self.filter_shape))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Filters begin with the spread of ``nn.Conv2d``'s; bias zero."""
        self.guide.reset_parameters()
        fan_in = self.filter_shape[1] * self.filter_shape[2] * self.filter_shape[3]
        if self.generator == "paper":
            self.squeeze.reset_parameters()
            # m sigmoids near 1/2 (mean square 1/4) are summed: this gives filters of variance 1 / (3 fan_in).
            bound = (4 / (self.num_regions * fan_in)) ** 0.5
            nn.init.uniform_(self.expand.weight, -bound, bound)
            if self.expand.bias is not None:
                nn.init.zeros_(self.expand.bias)
        else:
            nn.init.normal_(self.route.weight, std=0.01)
            nn.init.zeros_(self.route.bias)
            bound = (6 / fan_in) ** 0.5
            nn.init.uniform_(self.experts, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def filters(self, x: Tensor) -> Tensor:
        """Generated filters ``(N, m, O, C / groups, kh, kw)``."""
        return self._generated(x, channels_last=False).contiguous()

    def _generated(self, x: Tensor, channels_last: bool) -> Tensor:
        """The filters, in memory as a product made them that is fast to bring into the order asked for."""
        n, m = x.shape[0], self.num_regions
        o, cg, kh, kw = self.filter_shape
        if self.generator == "paper":
            cells = torch.sigmoid(self.squeeze(F.adaptive_avg_pool2d(x, (kh, kw))))
            cells = cells.view(n, m, m, kh * kw).permute(1, 2, 0, 3).flatten(2)  # (m, m, n kh kw)
            weight = self.expand.weight.view(m, -1, m)
            bias = weight.new_zeros(m, o * cg) if self.expand.bias is None else self.expand.bias.view(m, -1)
            # One product a region, for all images; a grouped convolution makes one a region and image, at a third of the speed.
            if channels_last or kh * kw == 1:
                made = torch.baddbmm(bias[:, None], cells.mT, weight.mT)
                return made.view(m, n, kh, kw, o, cg).permute(1, 0, 4, 5, 2, 3)
            made = torch.baddbmm(bias[:, :, None], weight, cells)
            return made.view(m, o, cg, n, kh, kw).permute(3, 0, 1, 2, 4, 5)
        weights = 2 * torch.sigmoid(self.route(x.mean((2, 3)))) / self.num_experts
        return torch.einsum("nme,meocij->nmocij", weights.view(n, m, -1), self.experts)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"dynamic_region_conv was made for (N, {self.in_channels}, H, W), received {tuple(x.shape)}"
            )
        by_region = x.device.type == "cpu" and (self.num_regions > 3 or self.guide.kernel_size == (1, 1))
        filters, soft = self._generated(x, channels_last=by_region), self.guide(x).softmax(1)
        if torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, filters, soft = x.to(dtype), filters.to(dtype), soft.to(dtype)
        choice = soft.detach().max(1).indices  # as argmax(1), in a fourth of its time
        # Groups become samples: every product below is of one group, and one guide serves all groups of an image.
        g = self.groups
        flat = x.reshape(x.shape[0] * g, x.shape[1] // g, *x.shape[2:])
        filters = filters.unflatten(2, (g, -1)).transpose(1, 2)
        if g > 1:
            soft, choice = soft.repeat_interleave(g, 0), choice.repeat_interleave(g, 0)
        guide = self.guide
        geometry = [[int(v) for v in pair] for pair in (guide.stride, guide.padding, guide.dilation)]
        if by_region:
            # Channels last, as in a patch: copied once, not once in each pass.
            filters = filters.movedim(4, -1).contiguous().flatten(0, 1).movedim(-1, 3)
            y = region_product(flat, filters, soft, choice, *geometry)
        else:
            hard = F.one_hot(choice, self.num_regions).movedim(-1, 1).to(soft.dtype)
            # Value of the hard choice, gradient of the soft one.
            soft = hard - soft.detach() + soft if torch.is_grad_enabled() else hard
            y = dense(flat, filters.flatten(0, 1), soft, *geometry)
        y = y.reshape(x.shape[0], self.out_channels, *y.shape[2:])
        return y if self.bias is None else y + self.bias.to(y.dtype).view(-1, 1, 1)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, num_regions={self.num_regions}, generator={self.generator!r}"
