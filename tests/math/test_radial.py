"""Radial functions against SciPy and closed forms, with derivatives, at r = 0, at the cutoff and in between."""

from collections.abc import Callable
from math import pi, sqrt

import numpy as np
import pytest
import torch
from scipy.special import eval_chebyt, roots_legendre, spherical_jn

from carten.math.radial import bessel, chebyshev, polynomial_envelope

Basis = Callable[[torch.Tensor, int, float], torch.Tensor]
CUTOFF = 4.5
GRID = torch.linspace(0, CUTOFF, 91, dtype=torch.float64)


def derivatives(values: torch.Tensor, r: torch.Tensor, order: int) -> list[torch.Tensor]:
    """First to ``order``-th derivative of a function of each element of r alone."""
    found = []
    for _ in range(order):
        (values,) = torch.autograd.grad(values.sum(), r, create_graph=True)
        found.append(values)
    return [value.detach() for value in found]


def test_bessel_equals_spherical_bessel_functions() -> None:
    k = np.arange(1, 9) * pi / CUTOFF
    expected = sqrt(2 / CUTOFF) * k * spherical_jn(0, k * GRID.numpy()[:, None])
    np.testing.assert_allclose(bessel(GRID, 8, CUTOFF), expected, atol=1e-13)


def test_bessel_functions_are_orthonormal_with_weight_r_squared() -> None:
    nodes, weights = roots_legendre(60)
    r = (nodes + 1) * CUTOFF / 2
    values = bessel(torch.from_numpy(r), 8, CUTOFF).numpy()
    gram = values.T @ (values * (weights * CUTOFF / 2 * r**2)[:, None])
    np.testing.assert_allclose(gram, np.eye(8), atol=1e-12)


def test_bessel_vanishes_at_the_cutoff() -> None:
    np.testing.assert_allclose(bessel(GRID[-1:], 8, CUTOFF), 0, atol=1e-14)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_bessel_and_its_derivatives_at_zero_follow_the_series(k: int) -> None:
    r = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    values = bessel(r, 8, CUTOFF)[:, k - 1]
    wave, amplitude = k * pi / CUTOFF, sqrt(2 / CUTOFF) * k * pi / CUTOFF
    assert values.item() == pytest.approx(amplitude, rel=1e-14)
    first, second, third, fourth = (value.item() for value in derivatives(values, r, 4))
    assert first == 0
    assert third == 0
    assert second == pytest.approx(-amplitude * wave**2 / 3, rel=1e-12)
    assert fourth == pytest.approx(amplitude * wave**4 / 5, rel=1e-12)


def test_bessel_is_smooth_where_the_series_takes_over() -> None:
    meeting = 0.5 * CUTOFF / pi
    sides = []
    for r in (meeting * (1 - 1e-13), meeting * (1 + 1e-13)):
        position = torch.tensor([r], dtype=torch.float64, requires_grad=True)
        values = bessel(position, 1, CUTOFF)[:, 0]
        sides.append([values.item(), *(value.item() for value in derivatives(values, position, 3))])
    np.testing.assert_allclose(sides[0], sides[1], rtol=1e-10)


def test_chebyshev_equals_scipy() -> None:
    expected = eval_chebyt(np.arange(7), 2 * GRID.numpy()[:, None] / CUTOFF - 1)
    np.testing.assert_allclose(chebyshev(GRID, 7, CUTOFF), expected, atol=1e-13)


@pytest.mark.parametrize("p", [1, 2, 5, 6])
def test_envelope_equals_its_polynomial(p: int) -> None:
    u = GRID.numpy() / CUTOFF
    expected = 1 - (p + 1) * (p + 2) / 2 * u**p + p * (p + 2) * u ** (p + 1) - p * (p + 1) / 2 * u ** (p + 2)
    np.testing.assert_allclose(polynomial_envelope(GRID, CUTOFF, p), expected, atol=1e-13)


@pytest.mark.parametrize("p", [2, 5, 6])
def test_envelope_meets_zero_with_two_derivatives_and_stays_there(p: int) -> None:
    step = 1e-5
    r = torch.tensor([CUTOFF - step, CUTOFF, CUTOFF + step, 2 * CUTOFF], dtype=torch.float64, requires_grad=True)
    values = polynomial_envelope(r, CUTOFF, p)
    first, second = derivatives(values, r, 2)
    assert values[1:].tolist() == [0, 0, 0]
    assert first[1:].tolist() == [0, 0, 0]
    assert second[1:].tolist() == [0, 0, 0]
    third = p * (p + 1) * (p + 2) / CUTOFF**3  # |f'''| at the cutoff: the approach is cubic, quadratic, linear
    assert values[0].item() == pytest.approx(third * step**3 / 6, rel=1e-3)
    assert first[0].item() == pytest.approx(-third * step**2 / 2, rel=1e-3)
    assert second[0].item() == pytest.approx(third * step, rel=1e-3)


def test_envelope_is_flat_at_zero() -> None:
    r = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    values = polynomial_envelope(r, CUTOFF)
    assert values.item() == 1
    np.testing.assert_allclose([value.item() for value in derivatives(values, r, 4)], 0, atol=1e-12)


def test_envelope_does_not_cancel_in_single_precision() -> None:
    r = torch.tensor([0.99 * CUTOFF], dtype=torch.float64)
    single = polynomial_envelope(r.float(), CUTOFF).double()
    # 1 - u = 0.01 carries the round-off of u, 6e-8 / 0.01, three times
    torch.testing.assert_close(single, polynomial_envelope(r, CUTOFF), rtol=3 * 1.2e-5, atol=0)


@pytest.mark.parametrize("basis", [bessel, chebyshev])
def test_bases_times_envelope_are_twice_continuously_differentiable(basis: Basis) -> None:
    r = torch.tensor([CUTOFF - 1e-6, CUTOFF, CUTOFF + 1e-6], dtype=torch.float64, requires_grad=True)
    for column in range(4):
        values = basis(r, 4, CUTOFF)[:, column] * polynomial_envelope(r, CUTOFF)
        for order, derivative in enumerate(derivatives(values, r, 2)):
            assert derivative[1:].abs().max() == 0
            assert derivative[0].abs() < 100 * 1e-6 ** (2 - order)


@pytest.mark.parametrize("basis", [bessel, chebyshev])
def test_second_derivatives_by_finite_differences(basis: Basis) -> None:
    r = torch.tensor([0.0, 0.3, 0.9, 2.7, 4.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: basis(x, 8, CUTOFF), r)
    assert torch.autograd.gradgradcheck(lambda x: basis(x, 8, CUTOFF) * polynomial_envelope(x, CUTOFF)[:, None], r)


@pytest.mark.parametrize("basis", [bessel, chebyshev])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_shapes_and_dtypes_follow_the_argument(basis: Basis, n: int) -> None:
    for dtype in (torch.float32, torch.float64):
        values = basis(torch.ones(2, 0, dtype=dtype), n, CUTOFF)
        assert values.shape == (2, 0, n)
        assert values.dtype == dtype
        assert polynomial_envelope(torch.ones(3, dtype=dtype), CUTOFF).dtype == dtype
    single, double = basis(GRID.float(), n, CUTOFF), basis(GRID, n, CUTOFF)
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-5)


def test_bad_arguments_are_refused() -> None:
    for basis in (bessel, chebyshev):
        with pytest.raises(ValueError, match="n = 0"):
            basis(GRID, 0, CUTOFF)
        with pytest.raises(ValueError, match=r"cutoff = -1"):
            basis(GRID, 2, -1)
    with pytest.raises(ValueError, match="p = 0"):
        polynomial_envelope(GRID, CUTOFF, 0)
    with pytest.raises(ValueError, match="cutoff = nan"):
        polynomial_envelope(GRID, float("nan"))
