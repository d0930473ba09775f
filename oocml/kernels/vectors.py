"""Two vector loops over the features of one sparse row, written as LLVM vectors of 8 floats.

A row touches a few dozen short pieces of a large matrix. A loop over such a piece that the compiler vectorises by
itself spends most of its time on entry checks and remainders, and keeps its sums in memory; here the sums of up to
64 classes stay in registers for the whole row, and the end of a piece is masked. Measured on NEWS20 with 20 classes
the visit runs about twice as fast this way (``docs/design.md``).

Vectors wider than the machine's are split by LLVM, so the code is portable.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8
WIDEST = 8
"""Vectors held at a time."""
PIECE = LANES * WIDEST
"""Floats handled by one call at most."""

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)
_BYTE_POINTER = ir.IntType(8).as_pointer()
_CONTRACT = ("contract",)
_MANGLED = f"v{LANES}f32.p0"


class _Piece(NamedTuple):
    """Loads and stores of floats [0, n) at a pointer as ``n_vectors`` vectors, the last one masked if ``masked``."""

    builder: Any
    n_vectors: int
    mask: Any

    def _address(self, pointer: Any, v: int) -> Any:
        offset = ir.Constant(ir.IntType(64), v * LANES * 4)
        return self.builder.bitcast(self.builder.gep(pointer, [offset]), _VECTOR.as_pointer())

    def _is_masked(self, v: int) -> bool:
        return self.mask is not None and v == self.n_vectors - 1

    def load(self, pointer: Any, v: int) -> Any:
        address = self._address(pointer, v)
        if not self._is_masked(v):
            return self.builder.load(address, align=4)
        kind = ir.FunctionType(_VECTOR, [address.type, ir.IntType(32), _MASK, _VECTOR])
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.masked.load.{_MANGLED}")
        zero = ir.Constant(_VECTOR, [0.0] * LANES)
        return self.builder.call(function, [address, ir.Constant(ir.IntType(32), 4), self.mask, zero])

    def store(self, value: Any, pointer: Any, v: int) -> None:
        address = self._address(pointer, v)
        if not self._is_masked(v):
            self.builder.store(value, address, align=4)
            return
        kind = ir.FunctionType(ir.VoidType(), [_VECTOR, address.type, ir.IntType(32), _MASK])
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.masked.store.{_MANGLED}")
        self.builder.call(function, [value, address, ir.Constant(ir.IntType(32), 4), self.mask])


def _splat(builder: Any, value: Any, kind: Any) -> Any:
    vector = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(vector, ir.Constant(kind, ir.Undefined), zeros)


def _bytes_at(builder: Any, array: Any, offset: Any) -> Any:
    """Byte pointer into an array."""
    return builder.gep(builder.bitcast(array.data, _BYTE_POINTER), [offset])


def _for_each_width(builder: Any, n: Any, emit: Callable[[_Piece], None]) -> None:
    """Branch on the number of vectors that ``n`` floats (1 .. PIECE) take; all but the widest piece are masked."""
    int64, lanes = ir.IntType(64), ir.VectorType(ir.IntType(32), LANES)
    count = builder.udiv(builder.add(n, ir.Constant(int64, LANES - 1)), ir.Constant(int64, LANES))
    case = builder.select(
        builder.icmp_unsigned("==", n, ir.Constant(int64, PIECE)), ir.Constant(int64, 0), count
    )
    end = builder.append_basic_block("width.end")
    switch = builder.switch(case, end)
    for chosen in range(WIDEST + 1):
        block = builder.append_basic_block(f"width.{chosen}")
        switch.add_case(ir.Constant(int64, chosen), block)
        builder.position_at_end(block)
        if chosen == 0:
            emit(_Piece(builder, WIDEST, None))
        else:
            rest = builder.trunc(builder.sub(n, ir.Constant(int64, (chosen - 1) * LANES)), ir.IntType(32))
            iota = ir.Constant(lanes, list(range(LANES)))
            emit(_Piece(builder, chosen, builder.icmp_unsigned("<", iota, _splat(builder, rest, lanes))))
        builder.branch(end)
    builder.position_at_end(end)


def _loop(
    builder: Any, start: Any, stop: Any, carried: list[Any], body: Callable[[Any, list[Any]], list[Any]]
) -> Any:
    """``for e in range(start, stop): carried = body(e, carried)``; returns the last ``carried``."""
    before = builder.block
    header = builder.append_basic_block("rows.header")
    inside = builder.append_basic_block("rows.body")
    after = builder.append_basic_block("rows.end")
    builder.branch(header)
    builder.position_at_end(header)
    e = builder.phi(start.type)
    e.add_incoming(start, before)
    values = []
    for value in carried:
        phi = builder.phi(value.type)
        phi.add_incoming(value, before)
        values.append(phi)
    builder.cbranch(builder.icmp_signed("<", e, stop), inside, after)
    builder.position_at_end(inside)
    results = body(e, values)
    e.add_incoming(builder.add(e, ir.Constant(start.type, 1)), builder.block)
    for phi, result in zip(values, results, strict=True):
        phi.add_incoming(result, builder.block)
    builder.branch(header)
    builder.position_at_end(after)
    return values


class _Arguments:
    """Arrays and numbers of a call, as the loops want them."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.builder = builder
        self._values = [
            context.make_array(kind)(context, builder, value) if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, args, strict=True)
        ]

    def __getitem__(self, position: int) -> Any:
        return self._values[position]

    def scalar(self, array: Any, e: Any) -> Any:
        return self.builder.load(self.builder.gep(array.data, [e]))

    def row(self, matrix: Any, indices: Any, e: Any, c0: Any) -> Any:
        """Pointer to matrix[indices[e], c0]."""
        int64 = ir.IntType(64)
        stride = self.builder.extract_value(matrix.strides, 0)
        j = self.builder.zext(self.scalar(indices, e), int64)
        column = self.builder.mul(c0, ir.Constant(int64, 4))
        return _bytes_at(self.builder, matrix, self.builder.add(self.builder.mul(j, stride), column))

    def start_of(self, vector: Any, k: Any) -> Any:
        """Pointer to vector[k] of a float32 array."""
        return _bytes_at(self.builder, vector, self.builder.mul(k, ir.Constant(ir.IntType(64), 4)))


@intrinsic  # type: ignore[misc]
def add_rows(
    typingctx: Any, out: Any, k0: Any, n: Any, W: Any, c0: Any, indices: Any, data: Any, start: Any, stop: Any
) -> Any:
    """out[k0 : k0 + n] += sum_e data[e] W[indices[e], c0 : c0 + n] for e in [start, stop); 1 <= n <= PIECE."""
    del typingctx, k0, n, c0, start, stop

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a = _Arguments(context, builder, signature, args)
        sums = a.start_of(a[0], a[1])

        def emit(piece: _Piece) -> None:
            def body(e: Any, totals: list[Any]) -> list[Any]:
                row = a.row(a[3], a[5], e, a[4])
                x = _splat(builder, a.scalar(a[6], e), _VECTOR)
                return [
                    builder.fadd(total, builder.fmul(x, piece.load(row, v), flags=_CONTRACT), flags=_CONTRACT)
                    for v, total in enumerate(totals)
                ]

            first = [piece.load(sums, v) for v in range(piece.n_vectors)]
            for v, total in enumerate(_loop(builder, a[7], a[8], first, body)):
                piece.store(total, sums, v)

        _for_each_width(builder, a[2], emit)
        return context.get_dummy_value()

    unsigned, signed = types.uint64, types.intp
    return types.void(out, unsigned, unsigned, W, unsigned, indices, data, signed, signed), codegen


@intrinsic  # type: ignore[misc]
def update_rows(
    typingctx: Any,
    W: Any,
    c0: Any,
    n: Any,
    indices: Any,
    start: Any,
    stop: Any,
    keep: Any,
    scale: Any,
    E: Any,
    k0: Any,
) -> Any:
    """W[indices[e], c0 : c0 + n] = keep[f] W[...] + scale[f] E[k0 : k0 + n], f = e - start, for e in [start, stop).

    1 <= n <= PIECE; indices are distinct. ``keep`` may be None: 1.
    """
    del typingctx, c0, n, start, stop, k0

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a = _Arguments(context, builder, signature, args)
        source = a.start_of(a[8], a[9])
        keeps = isinstance(signature.args[6], types.Array)

        def emit(piece: _Piece) -> None:
            gradient = [piece.load(source, v) for v in range(piece.n_vectors)]

            def body(e: Any, carried: list[Any]) -> list[Any]:
                f = builder.sub(e, a[4])
                row = a.row(a[0], a[3], e, a[1])
                x = _splat(builder, a.scalar(a[7], f), _VECTOR)
                k = _splat(builder, a.scalar(a[6], f), _VECTOR) if keeps else None
                for v in range(piece.n_vectors):
                    w = piece.load(row, v)
                    w = w if k is None else builder.fmul(k, w, flags=_CONTRACT)
                    step = builder.fmul(x, gradient[v], flags=_CONTRACT)
                    piece.store(builder.fadd(w, step, flags=_CONTRACT), row, v)
                return carried

            _loop(builder, a[4], a[5], [], body)

        _for_each_width(builder, a[2], emit)
        return context.get_dummy_value()

    unsigned, signed = types.uint64, types.intp
    return types.void(W, unsigned, unsigned, indices, signed, signed, keep, scale, E, unsigned), codegen
