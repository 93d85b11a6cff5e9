"""SIREN: the sine activation, its initialisation and the network (Sitzmann et al., arXiv 2006.09661)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zoo.numerics import without_autocast


class Sine(nn.Module):
    r"""The activation :math:`\phi(x) = \sin(\omega_0 x)`, element by element.

    The argument is formed in float32 at least: at :math:`\omega_0 = 30` it reaches tens of radians, where half
    precision has few digits left for the phase.

    Args:
        omega_0: frequency (paper: 30). It only does its work together with :func:`siren_init_`.

    Raises:
        ValueError: ``omega_0`` that is not positive.
    """

    def __init__(self, omega_0: float = 30.0) -> None:
        super().__init__()
        if not omega_0 > 0:
            raise ValueError(f"siren needs omega_0 > 0, received {omega_0}")
        self.omega_0 = float(omega_0)

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        return torch.sin(self.omega_0 * wide).to(x.dtype)

    def extra_repr(self) -> str:
        return f"omega_0={self.omega_0:g}"


@torch.no_grad()
def siren_init_(linear: nn.Linear, omega_0: float = 30.0, is_first: bool = False) -> nn.Linear:
    r"""Draw the weights of a layer in front of a sine; biases stay as they are.

    .. math:: W \sim \mathcal U(-1/n, 1/n) \text{ in the first layer}, \qquad
              W \sim \mathcal U\bigl(-\sqrt{6/n}/\omega_0,\ \sqrt{6/n}/\omega_0\bigr) \text{ after it}

    with ``n`` inputs. After a sine, activations then follow the arcsine law, of standard deviation
    :math:`\sqrt{1/2}`, whatever the depth.

    Args:
        linear: changed in place.
        omega_0: frequency by which the following sine multiplies.
        is_first: whether ``linear`` reads the coordinates.

    Returns:
        ``linear``.
    """
    bound = 1 / linear.in_features if is_first else math.sqrt(6 / linear.in_features) / omega_0
    linear.weight.uniform_(-bound, bound)
    return linear


class SineLayer(nn.Module):
    r"""A linear map and a sine: :math:`\sin(\omega_0 (W x + b))`, ``(*, in) -> (*, out)``.

    The linear map runs outside autocast, because its output is a phase.

    Args:
        in_features: inputs.
        out_features: outputs.
        bias: with bias, drawn as ``nn.Linear`` draws it.
        omega_0: frequency.
        is_first: whether this layer reads the coordinates (its initialisation differs).
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, omega_0: float = 30.0, is_first: bool = False
    ) -> None:
        super().__init__()
        self.is_first = is_first
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.act = Sine(omega_0)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        self.linear.reset_parameters()
        siren_init_(self.linear, self.act.omega_0, self.is_first)

    def forward(self, x: Tensor) -> Tensor:
        with without_autocast(x.device.type):
            return self.act(self.linear(x.to(self.linear.weight.dtype)))


class SirenNet(nn.Module):
    r"""A coordinate network: coordinates in [-1, 1] to values, with sines throughout.

    .. math:: \Phi(x) = W_n (\phi_{n-1} \circ \dots \circ \phi_0)(x) + b_n, \qquad
              \phi_i(x) = \sin(\omega_0 (W_i x + b_i))

    Smooth in its input, and every derivative of it is again such a network; losses may contain gradients and
    Laplacians of the output with respect to the coordinates (``create_graph=True``).

    Args:
        in_features: coordinates (2 for an image, 1 for sound).
        out_features: values a point.
        hidden_features: width (paper: 256).
        hidden_layers: sine layers after the first (paper: 3).
        omega_0: frequency of the hidden layers (paper: 30).
        first_omega_0: frequency of the first layer (paper: 30); it sets the bandwidth.
        outermost_linear: end without a sine.

    Raises:
        ValueError: a size below 1, ``hidden_layers`` below 0, or coordinates of another number.
    """

    def __init__(
        self,
        in_features: int = 2,
        out_features: int = 1,
        hidden_features: int = 256,
        hidden_layers: int = 3,
        omega_0: float = 30.0,
        first_omega_0: float = 30.0,
        outermost_linear: bool = True,
    ) -> None:
        super().__init__()
        if min(in_features, out_features, hidden_features) < 1 or hidden_layers < 0:
            raise ValueError(
                "siren_net needs in_features, out_features, hidden_features >= 1 and hidden_layers >= 0, received "
                f"{in_features}, {out_features}, {hidden_features} and {hidden_layers}"
            )
        self.in_features = in_features
        layers: list[nn.Module] = [SineLayer(in_features, hidden_features, omega_0=first_omega_0, is_first=True)]
        layers += [SineLayer(hidden_features, hidden_features, omega_0=omega_0) for _ in range(hidden_layers)]
        if outermost_linear:
            # The last layer, though no sine follows, is drawn as the hidden ones are (authors' code).
            layers.append(siren_init_(nn.Linear(hidden_features, out_features), omega_0))
        else:
            layers.append(SineLayer(hidden_features, out_features, omega_0=omega_0))
        self.layers = nn.Sequential(*layers)

    def forward(self, coordinates: Tensor) -> Tensor:
        if coordinates.shape[-1] != self.in_features:
            raise ValueError(
                f"siren_net was made for {self.in_features} coordinates, received {tuple(coordinates.shape)}"
            )
        return self.layers(coordinates)


def coordinate_grid(*size: int, device: torch.device | str | None = None) -> Tensor:
    """All points of a regular grid on [-1, 1]^d, ends included: ``(prod(size), d)``, last axis fastest."""
    axes = [torch.linspace(-1, 1, n, device=device) for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)
