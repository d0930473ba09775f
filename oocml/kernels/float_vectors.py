"""Arithmetic on LLVM vectors of 16 floats, written with Python's operators, for kernels over short rows.

A formula over `Floats` is a formula: ``x * y + c``. `over_row` builds the loop around it, with a masked end for rows
whose length is no multiple of 16. What the compiler vectorises by itself spends more time at entries and remainders of
such loops than in them: a row of 20 took 50 ns for work of 10. Vectors wider than the machine's are split by LLVM.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

LANES = 16
EIGHT = 8
HALF_TYPE, FLOAT_TYPE = ir.HalfType(), ir.FloatType()
INT16, INT32, INT64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
VECTOR = ir.VectorType(FLOAT_TYPE, LANES)
MASK = ir.VectorType(ir.IntType(1), LANES)
FLAGS = ("contract", "nsz", "reassoc", "arcp")


class Floats:
    """A vector of floats under construction (usually 16), or one float."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def _of(self, other: Floats | float | np.float32) -> Any:
        if isinstance(other, Floats):
            return other.value
        number = float(np.float32(other))
        return ir.Constant(self.value.type, [number] * self.lanes if self.lanes else number)

    @property
    def lanes(self) -> int:
        """How many floats it has; 0 for a plain one."""
        return getattr(self.value.type, "count", 0)

    def _words(self, value: int) -> Any:
        return ir.Constant(ir.VectorType(INT32, self.lanes), [value] * self.lanes)

    def __add__(self, other: Any) -> Floats:
        return Floats(self.builder, self.builder.fadd(self.value, self._of(other), flags=FLAGS))

    def __sub__(self, other: Any) -> Floats:
        return Floats(self.builder, self.builder.fsub(self.value, self._of(other), flags=FLAGS))

    def __mul__(self, other: Any) -> Floats:
        return Floats(self.builder, self.builder.fmul(self.value, self._of(other), flags=FLAGS))

    def __truediv__(self, other: Any) -> Floats:
        return Floats(self.builder, self.builder.fdiv(self.value, self._of(other), flags=FLAGS))

    def __rtruediv__(self, other: float) -> Floats:
        return Floats(self.builder, self.builder.fdiv(self._of(other), self.value, flags=FLAGS))

    def plus_product(self, x: Floats, y: Floats) -> Floats:
        """self + x * y, in one rounding wherever the machine can: `+` and `*` leave it to the compiler which product
        of two is rounded, and that depends on what surrounds them."""
        kind = self.value.type
        function = ir.FunctionType(kind, [kind] * 3)
        name = f"llvm.fmuladd.v{self.lanes}f32"
        fused = cgutils.get_or_insert_function(self.builder.module, function, name)
        return Floats(self.builder, self.builder.call(fused, [x.value, y.value, self.value]))

    __radd__ = __add__
    __rmul__ = __mul__

    def larger(self, other: Any) -> Floats:
        """The larger of both, element by element; NaN gives ``other``."""
        y = self._of(other)
        greater = self.builder.fcmp_ordered(">", self.value, y)
        return Floats(self.builder, self.builder.select(greater, self.value, y))

    def rint(self) -> Floats:
        """Nearest whole numbers."""
        return Floats(self.builder, self._call("llvm.rint", self.value.type))

    def power_of_two(self) -> Floats:
        """2^n of whole numbers from -126 to 127."""
        b = self.builder
        words = ir.VectorType(INT32, self.lanes)
        biased = b.add(b.fptosi(self.value, words), self._words(127))
        return Floats(b, b.bitcast(b.shl(biased, self._words(23)), self.value.type))

    def split(self) -> tuple[Floats, Floats]:
        """(e, m) with x = m 2^e and m from 1/sqrt 2 to sqrt 2, of positive normal numbers."""
        b, by, kind = self.builder, self._words(23), self.value.type
        bits = b.bitcast(self.value, by.type)
        # from sqrt(1/2) on the exponent is that of the next power of two
        e = b.ashr(b.sub(bits, self._words(0x3F3504F3)), by)
        m = b.bitcast(b.sub(bits, b.shl(e, by)), kind)
        return Floats(b, b.sitofp(e, kind)), Floats(b, m)

    def where(self, mask: Any) -> Floats:
        """0 outside the mask (None: nothing is)."""
        if mask is None:
            return self
        zero = ir.Constant(self.value.type, [0.0] * self.lanes)
        return Floats(self.builder, self.builder.select(mask, self.value, zero))

    def sum(self) -> Any:
        """The sum of the elements, as a value."""
        kind = ir.FunctionType(FLOAT_TYPE, [FLOAT_TYPE, self.value.type])
        name = f"llvm.vector.reduce.fadd.v{self.lanes}f32"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, [ir.Constant(FLOAT_TYPE, -0.0), self.value], fastmath=FLAGS)

    def largest(self) -> Any:
        """The largest element, as a value."""
        return self._call("llvm.vector.reduce.fmax", FLOAT_TYPE)

    def _call(self, name: str, result: Any) -> Any:
        kind = ir.FunctionType(result, [self.value.type])
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"{name}.v{self.lanes}f32")
        return self.builder.call(function, [self.value])


def splat(builder: Any, value: Any, kind: Any = VECTOR) -> Any:
    """A vector with ``value`` in every place."""
    nothing = ir.Constant(kind, ir.Undefined)
    vector = builder.insert_element(nothing, value, ir.Constant(INT32, 0))
    return builder.shuffle_vector(vector, nothing, ir.Constant(ir.VectorType(INT32, kind.count), None))


def every(builder: Any, value: Any, lanes: int = LANES) -> Floats:
    """A float in every place."""
    return Floats(builder, splat(builder, value, ir.VectorType(FLOAT_TYPE, lanes)))


class Row:
    """Row i of a C-contiguous matrix of float32, or of float16 kept as uint16; or a vector of them."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any, i: Any = None) -> None:
        array = context.make_array(kind)(context, builder, value)
        self.builder, self.half = builder, kind.dtype == types.uint16
        self.element = INT16 if self.half else FLOAT_TYPE
        start = builder.bitcast(array.data, ir.IntType(8).as_pointer())
        if i is not None:
            start = builder.gep(start, [builder.mul(i, builder.extract_value(array.strides, 0))])
        self.start = builder.bitcast(start, self.element.as_pointer())
        self.size = builder.extract_value(array.shape, 0 if i is None else 1)

    def _at(self, k: Any, lanes: int = LANES) -> tuple[Any, Any, int, str]:
        kind = ir.VectorType(self.element, lanes)
        address = self.builder.bitcast(self.builder.gep(self.start, [k]), kind.as_pointer())
        return kind, address, 2 if self.half else 4, f"v{lanes}{'i16' if self.half else 'f32'}.p0"

    def load(self, k: Any, mask: Any = None, lanes: int = LANES) -> Floats:
        """Elements [k, k + lanes), 0 outside the mask."""
        b = self.builder
        kind, address, align, name = self._at(k, lanes)
        if mask is None:
            value = b.load(address, align=align)
        else:
            function = ir.FunctionType(kind, [address.type, INT32, mask.type, kind])
            masked = cgutils.get_or_insert_function(b.module, function, f"llvm.masked.load.{name}")
            value = b.call(masked, [address, INT32(align), mask, ir.Constant(kind, None)])
        if self.half:
            value = b.fpext(
                b.bitcast(value, ir.VectorType(HALF_TYPE, lanes)), ir.VectorType(FLOAT_TYPE, lanes)
            )
        return Floats(b, value)

    def rounded(self, x: Floats) -> tuple[Any, Floats]:
        """What `store` takes, and the numbers that are then there."""
        if not self.half:
            return x.value, x
        b = self.builder
        half = b.fptrunc(x.value, ir.VectorType(HALF_TYPE, x.lanes))
        return b.bitcast(half, ir.VectorType(INT16, x.lanes)), Floats(b, b.fpext(half, x.value.type))

    def store(self, value: Any, k: Any, mask: Any = None) -> None:
        b = self.builder
        kind, address, align, name = self._at(k, value.type.count)
        if mask is None:
            b.store(value, address, align=align)
            return
        function = ir.FunctionType(ir.VoidType(), [kind, address.type, INT32, mask.type])
        masked = cgutils.get_or_insert_function(b.module, function, f"llvm.masked.store.{name}")
        b.call(masked, [value, address, INT32(align), mask])


class Elements:
    """Some elements of a row of float32, eight at a time, by scalar loads and stores.

    On the processors at hand the machine's own gathers and scatters take twice as long.
    """

    def __init__(self, row: Row, places: list[Any]) -> None:
        self.builder = row.builder
        self.addresses = [self.builder.gep(row.start, [place]) for place in places]

    def load(self) -> Floats:
        b = self.builder
        vector = ir.Constant(ir.VectorType(FLOAT_TYPE, len(self.addresses)), ir.Undefined)
        for n, address in enumerate(self.addresses):
            vector = b.insert_element(vector, b.load(address, align=4), INT32(n))
        return Floats(b, vector)

    def store(self, x: Floats) -> None:
        """Put elements back; their places must differ."""
        for n, address in enumerate(self.addresses):
            self.builder.store(self.builder.extract_element(x.value, INT32(n)), address, align=4)


Body = Callable[[Any, Any, list[Floats]], list[Floats]]
"""Works on elements [k, k + 16) under a mask or None, and returns the carried vectors brought up to date."""


def over_row(builder: Any, n: Any, carried: list[Floats], body: Body) -> list[Floats]:
    """Run ``body`` over elements [0, n)."""
    whole = builder.and_(n, ir.Constant(INT64, -LANES))
    carried = over_steps(builder, whole, LANES, carried, lambda k, found: body(k, None, found))
    rest = builder.block
    masked, end = (builder.append_basic_block(name) for name in ("masked", "end"))
    left = builder.sub(n, whole)
    builder.cbranch(builder.icmp_unsigned("!=", left, INT64(0)), masked, end)
    builder.position_at_end(masked)
    wide = ir.VectorType(INT64, LANES)
    mask = builder.icmp_unsigned("<", ir.Constant(wide, list(range(LANES))), splat(builder, left, wide))
    results = body(whole, mask, carried)
    last = builder.block
    builder.branch(end)
    builder.position_at_end(end)
    found = []
    for before, x in zip(carried, results, strict=True):
        joined = builder.phi(x.value.type)
        joined.add_incoming(before.value, rest)
        joined.add_incoming(x.value, last)
        found.append(Floats(builder, joined))
    return found


def over_eights(
    builder: Any, n: Any, carried: list[Floats], body: Callable[..., list[Floats]]
) -> list[Floats]:
    """Run ``body(k, carried)`` for k = 0, 8, ... below n, a multiple of 8."""
    return over_steps(builder, n, EIGHT, carried, body)


def over_steps(
    builder: Any,
    n: Any,
    step: int,
    carried: list[Floats],
    body: Callable[..., list[Floats]],
    begin: Any = None,
) -> list[Floats]:
    """Run ``body(k, carried)`` for k = ``begin`` (0), begin + step, ... below n, which one of them would be."""
    before = builder.block
    head, inside, end = (builder.append_basic_block(name) for name in ("head", "inside", "end"))
    builder.branch(head)
    builder.position_at_end(head)
    k = builder.phi(INT64)
    k.add_incoming(INT64(0) if begin is None else begin, before)
    phis = [builder.phi(x.value.type) for x in carried]
    for phi, x in zip(phis, carried, strict=True):
        phi.add_incoming(x.value, before)
    builder.cbranch(builder.icmp_unsigned("<", k, n), inside, end)
    builder.position_at_end(inside)
    results = body(k, [Floats(builder, phi) for phi in phis])
    k.add_incoming(builder.add(k, INT64(step)), builder.block)
    for phi, x in zip(phis, results, strict=True):
        phi.add_incoming(x.value, builder.block)
    builder.branch(head)
    builder.position_at_end(end)
    return [Floats(builder, phi) for phi in phis]


def zeros(builder: Any, lanes: int = LANES) -> Floats:
    return Floats(builder, ir.Constant(ir.VectorType(FLOAT_TYPE, lanes), [0.0] * lanes))


def is_row(kind: Any, *dtypes: Any) -> bool:
    """Whether a numba type is a C-contiguous array of one of these."""
    return isinstance(kind, types.Array) and kind.layout == "C" and kind.dtype in dtypes
