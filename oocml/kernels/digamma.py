"""Functions of Dirichlet parameters on vectors of floats; psi is the digamma function.

Expectations of log probabilities under Dirichlet distributions are differences of digammas, so the weights of
variational inference are products of F(x) = exp(psi(x)). From psi(x) = psi(x + 1) - 1/x follows

    F(x) = R(x) exp(-1/x),     R(x) = exp(psi(x + 1)) = u + (u + a) / q(u),     u = x + 1/2

with q of degree two, fitted for relative error: below 6e-6 for all x >= 0, and falling with x. So one division and one
exponential are all that F takes, and the product of two F's takes no more.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from oocml.kernels.float_vectors import Floats, Row, every, is_row, over_row, zeros
from oocml.kernels.jit import inlined, jit

SMALLEST = 5e-5
"""Least argument: smaller ones count as this."""
LN2 = np.float32(0.69314718)
FLOOR = -100.0
"""Least power of two of an exponential: products of smaller ones would be denormal."""

# keeps the products of both polynomials within float32 for arguments from 5e-5 to 1e10
_S = 2.0**-50
_A = 0.74713655 * _S
_Q0, _Q1, _Q2 = 5.56711406 * _S, 17.45190802 * _S, 24.0 * _S
_MINUS_LOG2E = -1.44269504


def exp2(v: Floats) -> Floats:
    """2^v for v from -126 to 127; relative error below 3e-6."""
    n = v.rint()
    h = v - n
    p = h * 0.00133336 + 0.00961813
    for coefficient in (0.05550411, 0.24022651, 0.69314718, 1.0):
        p = p * h + coefficient
    return p * n.power_of_two()


def log(x: Floats) -> Floats:
    """Natural logarithm of positive normal numbers, to 1e-6 of 1 or of it."""
    e, m = x.split()
    t = (m - 1.0) / (m + 1.0)
    s = t * t
    series = s * (2 / 9) + 2 / 7
    for coefficient in (2 / 5, 2 / 3, 2.0):
        series = series * s + coefficient
    return e * 0.69314718 + t * series


def _polynomial(u: Floats) -> Floats:
    return (u * _Q2 + _Q1) * u + _Q0


def exp_digamma(x: Floats, shift: Floats | float = 0.0) -> Floats:
    """exp(psi(x)) 2^shift, at least about 2^-100."""
    x = x.larger(SMALLEST)
    u = x + 0.5
    q = _polynomial(u)
    r = 1.0 / (x * q)
    v = (q * r * _MINUS_LOG2E + shift).larger(FLOOR)
    return (u * q + (u * _S + _A)) * (x * r) * exp2(v)


def exp_digamma_product(x: Floats, y: Floats, shift: Floats) -> Floats:
    """exp(psi(x) + psi(y)) 2^shift, at least about 2^-100.

    ``shift`` brings numbers into range that are all too small: see `digamma_exponent`.
    """
    x, y = x.larger(SMALLEST), y.larger(SMALLEST)
    u, w = x + 0.5, y + 0.5
    q, p = _polynomial(u), _polynomial(w)
    qp, xy = q * p, x * y
    r = 1.0 / (xy * qp)
    v = ((x + y) * (qp * r) * _MINUS_LOG2E + shift).larger(FLOOR)
    return (u * q + (u * _S + _A)) * (w * p + (w * _S + _A)) * (xy * r) * exp2(v)


def digamma_exponent(x: Floats, y: Floats) -> Floats:
    """About the power of two of exp(psi(x) + psi(y)) for small arguments."""
    x, y = x.larger(SMALLEST), y.larger(SMALLEST)
    return (x + y) / (x * y) * _MINUS_LOG2E


def digamma(x: Floats) -> Floats:
    """psi(x)."""
    x = x.larger(SMALLEST)
    u = x + 0.5
    q = _polynomial(u)
    r = 1.0 / (x * q)
    return log((u * q + (u * _S + _A)) * (x * r)) - q * r


def log_gamma(x: Floats) -> Floats:
    """Logarithm of the gamma function, to 1e-6 of 1 or of it: Stirling's series at x + 3."""
    x = x.larger(SMALLEST)
    y = x + 3.0
    inverse = 1.0 / y
    square = inverse * inverse
    series = inverse * ((square * (1 / 1260) - 1 / 360) * square + 1 / 12)
    return (y - 0.5) * log(y) - y + 0.9189385332 + series - log(x * (x + 1.0)) - log(x + 2.0)


def _sum_over_row(term: Callable[..., Floats]) -> Any:
    """A function of (A, i, x): the sum over row i of ``term(a, x)``, x being the same everywhere."""

    @intrinsic  # type: ignore[misc]
    def sum_over_row(typingctx: Any, A: Any, i: Any, x: Any) -> Any:
        del typingctx, i, x
        if not is_row(A, types.float32):
            return None

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            row = Row(context, builder, signature.args[0], args[0], args[1])
            other = every(builder, args[2])

            def body(k: Any, mask: Any, carried: list[Floats]) -> list[Floats]:
                return [carried[0] + term(row.load(k, mask), other).where(mask)]

            return over_row(builder, row.size, [zeros(builder)], body)[0].sum()

        return types.float32(A, types.intp, types.float32), codegen

    return sum_over_row


_log_gamma_row = _sum_over_row(lambda a, x: log_gamma(a) - x)
_divergence_row = _sum_over_row(lambda a, x: (a - x) * digamma(a) - log_gamma(a))
_digamma_row = _sum_over_row(lambda a, x: digamma(a) - x)


@inlined
def _in_use(A, i):
    k = 0
    while k < A.shape[1] and A[i, k] == 0:
        k += 1
    return k < A.shape[1]


@jit
def sum_log_gamma(A):
    """Sum of the log gammas of all numbers in rows that are not all 0."""
    total, zero = 0.0, np.float32(0)
    for i in range(len(A)):
        if _in_use(A, i):
            total += _log_gamma_row(A, i, zero)
    return total


@jit
def sum_digamma(A, x):
    """Sum of psi(a) - x over the numbers a of rows that are not all 0."""
    total = 0.0
    for i in range(len(A)):
        if _in_use(A, i):
            total += _digamma_row(A, i, np.float32(x))
    return total


@jit
def sum_divergence(A, prior):
    """Sum of (a - prior) psi(a) - log G(a) over the numbers a of rows that are not all 0; G is the gamma function."""
    total = 0.0
    for i in range(len(A)):
        if _in_use(A, i):
            total += _divergence_row(A, i, np.float32(prior))
    return total


@intrinsic  # type: ignore[misc]
def fill_exp_digamma(typingctx: Any, out: Any, i: Any, x: Any, j: Any, shift: Any) -> Any:
    """out[i, k] = exp(psi(x[j, k])) 2^shift for every k of row j."""
    del typingctx, i, j, shift
    if not (is_row(out, types.float32) and is_row(x, types.float32)):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to = Row(context, builder, signature.args[0], args[0], args[1])
        of = Row(context, builder, signature.args[2], args[2], args[3])
        by = every(builder, args[4])

        def body(k: Any, mask: Any, carried: list[Floats]) -> list[Floats]:
            to.store(exp_digamma(of.load(k, mask), by).value, k, mask)
            return carried

        over_row(builder, of.size, [], body)
        return context.get_dummy_value()

    return types.void(out, types.intp, x, types.intp, types.float32), codegen


@intrinsic  # type: ignore[misc]
def shift_of(typingctx: Any, x: Any, j: Any) -> Any:
    """The power of two that brings the largest exp(psi(x)) of row j near 1 where all are small."""
    del typingctx, j
    if not is_row(x, types.float32):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        row = Row(context, builder, signature.args[0], args[0], args[1])

        def body(k: Any, mask: Any, carried: list[Floats]) -> list[Floats]:
            return [carried[0].larger(row.load(k, mask))]

        largest = Floats(builder, over_row(builder, row.size, [zeros(builder)], body)[0].largest())
        return (1.0 / largest.larger(SMALLEST) * -_MINUS_LOG2E).value

    return types.float32(x, types.intp), codegen
