import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oocml.kernels.decimal import HARD, HUGE, NOT_A_NUMBER, OK, TINY, parse_number


def parse(text):
    status, value, end = parse_number(np.frombuffer(text.encode() + b"\n", np.uint8), 0)
    return status, value, end


def bits(value):
    return struct.pack("d", value)


def assert_nearest(text):
    """The double Python finds, or a status that tells why not."""
    status, value, end = parse(text)
    wanted = float(text)
    assert end == len(text)
    if status == OK:
        assert bits(value) == bits(wanted)
    elif status == TINY:
        assert abs(wanted) < 2.3e-308
    elif status == HUGE:
        assert abs(wanted) == np.inf
    else:
        assert status == HARD


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(0.1)
@example(5e-324)
@example(1.7976931348623157e308)
@example(-0.0)
@example(9007199254740993.0)
def test_shortest_form_of_every_double_is_read_back(x):
    assert_nearest(repr(x))
    assert_nearest(f"{x:.17g}")
    assert_nearest(f"{x:.6g}")
    assert_nearest(f"{x:+.3e}")


@given(st.integers(0, 2**64), st.integers(-340, 310))
def test_any_mantissa_and_exponent(mantissa, exponent):
    assert_nearest(f"{mantissa}e{exponent}")
    assert_nearest(f"{mantissa}.{mantissa}e{exponent}")


@given(st.integers(2**52, 2**53 - 1), st.integers(0, 10))
def test_half_way_between_doubles_goes_to_even(mantissa, shift):
    assert_nearest(str((2 * mantissa + 1) << shift))


def test_usual_decimals_are_never_hard():
    rng = np.random.default_rng(0)
    for x in rng.normal(size=300) * 10.0 ** rng.integers(-20, 20, 300):
        for text in (f"{x:.6g}", f"{x:.9g}", repr(float(x))):
            assert parse(text)[0] == OK


def test_more_than_19_digits_are_decided_where_they_can_be():
    assert parse("0.3000000000000000444089209850062616169452667236328125")[0] in (OK, HARD)
    assert parse("1.00000000000000000000000000000000000001")[:2] == (OK, 1.0)
    assert parse("0.00000000000000000000000000000000000000000012")[:2] == (OK, 1.2e-43)


@pytest.mark.parametrize("text", ["", "-", "+", ".", "nan", "inf", "-inf", "e5", "1e", "1e+", "abc", ","])
def test_what_is_no_number(text):
    assert parse(text)[0] == NOT_A_NUMBER


def test_parsing_stops_at_the_first_other_byte():
    assert parse("12:3") == (OK, 12.0, 2)
    assert parse("1.5,") == (OK, 1.5, 3)
    assert parse("7abc") == (OK, 7.0, 1)
