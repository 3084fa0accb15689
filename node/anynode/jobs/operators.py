"""The allow-list: every ATen operator that a graph may call, with what each of its arguments may be.

A graph names an operator; it is looked up in ``OPERATORS`` and nowhere else. All entries are functions without
side effects, randomness or data-dependent shapes. ``kinds`` follow the operator's ATen schema; the schema's
arguments named in ``_OMITTED`` are left at their defaults and cannot be set by a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from anynode.jobs import operator_bounds as bounds
from anynode.jobs.argument_kinds import (
    ANY_NUMBER,
    BOOL,
    CHANNEL_GROUPS,
    COUNT,
    DIM,
    DIMS,
    DTYPE,
    FALSE,
    FLOAT,
    INDEX,
    NUMBER,
    PADDING,
    PARTS,
    REDUCTION,
    SIZE,
    SIZES,
    SIZES_OR_REST,
    STEP,
    TENSOR,
    TENSOR_OR_NUMBER,
    TENSORS,
    WINDOW,
    ZERO,
    Kind,
    one_of,
)
from anynode_contracts.errors import invariant

Bound = Callable[[Sequence[Any]], int]

_OMITTED = frozenset(
    {
        "copy",
        "cudnn_enable",
        "cudnn_enabled",
        "device",
        "implicit",
        "layout",
        "memory_format",
        "non_blocking",
        "pin_memory",
        "sparse_grad",
    }
)


@dataclass(frozen=True)
class Operator:
    """One row of the allow-list.

    ``names`` are the schema's argument names, ``keyword_from`` is the place of the first keyword-only one;
    ``creates``: makes a tensor from nothing, so the reader says on which device; ``pieces``: how many tensors
    a list-valued operator gives; ``scratch``: elements that it may hold inside, beyond its outputs.
    """

    overload: Any
    kinds: tuple[Kind, ...]
    names: tuple[str, ...]
    keyword_from: int
    creates: bool
    pieces: Bound | None
    scratch: Bound | None

    @property
    def name(self) -> str:
        return str(self.overload)

    def keywords(self, values: Sequence[Any], device: torch.device) -> dict[str, Any]:
        """The keyword arguments among ``values`` (which follow ``kinds``)."""
        given = dict(zip(self.names[self.keyword_from :], values[self.keyword_from :], strict=True))
        return given | {"device": device} if self.creates else given


def _row(overload: Any, *kinds: Kind, pieces: Bound | None = None, scratch: Bound | None = None) -> Operator:
    schema = overload._schema
    arguments = [argument for argument in schema.arguments if argument.name not in _OMITTED]
    invariant(len(arguments) == len(kinds), f"the allow-list's row of {overload} does not fit {schema}")
    keyword_only = [argument.kwarg_only for argument in arguments]
    return Operator(
        overload=overload,
        kinds=kinds,
        names=tuple(argument.name for argument in arguments),
        keyword_from=keyword_only.index(True) if True in keyword_only else len(kinds),
        creates=any(argument.name == "device" for argument in schema.arguments),
        pieces=pieces,
        scratch=scratch,
    )


_aten = torch.ops.aten
_DTYPE_OR_NONE = DTYPE.or_none()
_TENSOR_OR_NONE = TENSOR.or_none()
_NUMBER_OR_NONE = NUMBER.or_none()

_SHAPES = (
    _row(_aten.view.default, TENSOR, SIZES_OR_REST),
    _row(_aten.reshape.default, TENSOR, SIZES_OR_REST),
    _row(_aten.flatten.using_ints, TENSOR, DIM, DIM),
    _row(_aten.unflatten.int, TENSOR, DIM, SIZES_OR_REST),
    _row(_aten.transpose.int, TENSOR, DIM, DIM),
    _row(_aten.permute.default, TENSOR, DIMS),
    _row(_aten.t.default, TENSOR),
    _row(_aten.mT.default, TENSOR),
    _row(_aten.unsqueeze.default, TENSOR, DIM),
    _row(_aten.squeeze.dim, TENSOR, DIM),
    _row(_aten.slice.Tensor, TENSOR, DIM, INDEX.or_none(), INDEX.or_none(), STEP),
    _row(_aten.select.int, TENSOR, DIM, INDEX),
    _row(_aten.split.Tensor, TENSOR, SIZE, DIM, pieces=bounds.split_count),
    _row(_aten.split_with_sizes.default, TENSOR, PARTS, DIM, pieces=bounds.split_sizes_count),
    _row(_aten.chunk.default, TENSOR, COUNT, DIM, pieces=bounds.chunk_count),
    _row(_aten.unbind.int, TENSOR, DIM, pieces=bounds.unbind_count),
    _row(_aten.cat.default, TENSORS, DIM),
    _row(_aten.stack.default, TENSORS, DIM),
    _row(_aten.expand.default, TENSOR, SIZES_OR_REST),
    _row(_aten.repeat.default, TENSOR, SIZES),
    _row(_aten.contiguous.default, TENSOR),
    _row(_aten.clone.default, TENSOR),
    _row(_aten.detach.default, TENSOR),
    _row(_aten.to.dtype, TENSOR, DTYPE),
    _row(_aten.gather.default, TENSOR, DIM, TENSOR),
    _row(_aten.index_select.default, TENSOR, DIM, TENSOR),
    _row(_aten.tril.default, TENSOR, INDEX),
    _row(_aten.triu.default, TENSOR, INDEX),
)

_NEW_TENSORS = (
    _row(_aten.arange.default, NUMBER, _DTYPE_OR_NONE),
    _row(_aten.arange.start, NUMBER, NUMBER, _DTYPE_OR_NONE),
    _row(_aten.arange.start_step, NUMBER, NUMBER, NUMBER, _DTYPE_OR_NONE),
    _row(_aten.full.default, SIZES, ANY_NUMBER, _DTYPE_OR_NONE),
    _row(_aten.zeros.default, SIZES, _DTYPE_OR_NONE),
    _row(_aten.ones.default, SIZES, _DTYPE_OR_NONE),
    _row(_aten.zeros_like.default, TENSOR, _DTYPE_OR_NONE),
    _row(_aten.ones_like.default, TENSOR, _DTYPE_OR_NONE),
    _row(_aten.full_like.default, TENSOR, ANY_NUMBER, _DTYPE_OR_NONE),
    _row(_aten.scalar_tensor.default, ANY_NUMBER, _DTYPE_OR_NONE),
)

_ELEMENTWISE = (
    _row(_aten.add.Tensor, TENSOR, TENSOR_OR_NUMBER, NUMBER),
    _row(_aten.sub.Tensor, TENSOR, TENSOR_OR_NUMBER, NUMBER),
    _row(_aten.mul.Tensor, TENSOR, TENSOR_OR_NUMBER),
    _row(_aten.div.Tensor, TENSOR, TENSOR_OR_NUMBER),
    _row(_aten.rsub.Scalar, TENSOR, NUMBER, NUMBER),
    _row(_aten.pow.Tensor_Scalar, TENSOR, NUMBER),
    *(
        _row(overload, TENSOR)
        for overload in (
            _aten.abs.default,
            _aten.cos.default,
            _aten.exp.default,
            _aten.log.default,
            _aten.log1p.default,
            _aten.neg.default,
            _aten.reciprocal.default,
            _aten.relu.default,
            _aten.rsqrt.default,
            _aten.sigmoid.default,
            _aten.silu.default,
            _aten.sin.default,
            _aten.sqrt.default,
            _aten.square.default,
            _aten.tanh.default,
        )
    ),
    _row(_aten.gelu.default, TENSOR, one_of("none", "tanh")),
    _row(_aten.leaky_relu.default, TENSOR, NUMBER),
    _row(_aten.softplus.default, TENSOR, NUMBER, NUMBER),
    _row(_aten.clamp.default, TENSOR, _NUMBER_OR_NONE, _NUMBER_OR_NONE),
    _row(_aten.maximum.default, TENSOR, TENSOR),
    _row(_aten.minimum.default, TENSOR, TENSOR),
    _row(_aten.where.self, TENSOR, TENSOR, TENSOR),
    _row(_aten.where.ScalarOther, TENSOR, TENSOR, ANY_NUMBER),
    _row(_aten.where.ScalarSelf, TENSOR, ANY_NUMBER, TENSOR),
    _row(_aten.masked_fill.Scalar, TENSOR, TENSOR, ANY_NUMBER),
    *(
        _row(overload, TENSOR, NUMBER)
        for overload in (
            _aten.eq.Scalar,
            _aten.ne.Scalar,
            _aten.lt.Scalar,
            _aten.le.Scalar,
            _aten.gt.Scalar,
            _aten.ge.Scalar,
        )
    ),
    *(
        _row(overload, TENSOR, TENSOR)
        for overload in (
            _aten.eq.Tensor,
            _aten.ne.Tensor,
            _aten.lt.Tensor,
            _aten.le.Tensor,
            _aten.gt.Tensor,
            _aten.ge.Tensor,
            _aten.logical_and.default,
            _aten.logical_or.default,
        )
    ),
    _row(_aten.logical_not.default, TENSOR),
)

_REDUCTIONS = (
    _row(_aten.mean.default, TENSOR, _DTYPE_OR_NONE),
    _row(_aten.mean.dim, TENSOR, DIMS.or_none(), BOOL, _DTYPE_OR_NONE),
    _row(_aten.sum.default, TENSOR, _DTYPE_OR_NONE),
    _row(_aten.sum.dim_IntList, TENSOR, DIMS.or_none(), BOOL, _DTYPE_OR_NONE),
    _row(_aten.amax.default, TENSOR, DIMS, BOOL),
    _row(_aten.amin.default, TENSOR, DIMS, BOOL),
    _row(_aten.var.dim, TENSOR, DIMS.or_none(), BOOL, BOOL),
    _row(_aten.var.correction, TENSOR, DIMS.or_none(), _NUMBER_OR_NONE, BOOL),
    _row(_aten.logsumexp.default, TENSOR, DIMS, BOOL),
    _row(_aten.softmax.int, TENSOR, DIM, _DTYPE_OR_NONE),
    _row(_aten.log_softmax.int, TENSOR, DIM, _DTYPE_OR_NONE),
    _row(_aten.cumsum.default, TENSOR, DIM, _DTYPE_OR_NONE),
)

_CONVOLUTION = (TENSOR, TENSOR, _TENSOR_OR_NONE, WINDOW, PADDING, WINDOW, CHANNEL_GROUPS)
_SAME_CONVOLUTION = (
    TENSOR,
    TENSOR,
    _TENSOR_OR_NONE,
    WINDOW,
    one_of("same", "valid"),
    WINDOW,
    CHANNEL_GROUPS,
)

_LAYERS = (
    _row(_aten.matmul.default, TENSOR, TENSOR, scratch=bounds.matmul_elements),
    _row(_aten.mm.default, TENSOR, TENSOR),
    _row(_aten.bmm.default, TENSOR, TENSOR),
    _row(_aten.addmm.default, TENSOR, TENSOR, TENSOR, NUMBER, NUMBER),
    _row(_aten.linear.default, TENSOR, TENSOR, _TENSOR_OR_NONE),
    _row(_aten.embedding.default, TENSOR, TENSOR, INDEX, FALSE, FALSE),
    _row(_aten.layer_norm.default, TENSOR, SIZES, _TENSOR_OR_NONE, _TENSOR_OR_NONE, FLOAT),
    _row(_aten.group_norm.default, TENSOR, CHANNEL_GROUPS, _TENSOR_OR_NONE, _TENSOR_OR_NONE, FLOAT),
    _row(_aten.rms_norm.default, TENSOR, SIZES, _TENSOR_OR_NONE, FLOAT.or_none()),
    _row(
        _aten.scaled_dot_product_attention.default,
        TENSOR,
        TENSOR,
        TENSOR,
        _TENSOR_OR_NONE,
        ZERO,
        BOOL,
        FLOAT.or_none(),
        BOOL,
        scratch=bounds.attention_elements,
    ),
    _row(_aten.conv1d.default, *_CONVOLUTION, scratch=bounds.convolution_elements),
    _row(_aten.conv2d.default, *_CONVOLUTION, scratch=bounds.convolution_elements),
    _row(_aten.conv1d.padding, *_SAME_CONVOLUTION, scratch=bounds.convolution_elements),
    _row(_aten.conv2d.padding, *_SAME_CONVOLUTION, scratch=bounds.convolution_elements),
    _row(_aten.max_pool2d.default, TENSOR, WINDOW, WINDOW, PADDING, WINDOW, BOOL),
    _row(_aten.avg_pool2d.default, TENSOR, WINDOW, WINDOW, PADDING, BOOL, BOOL, COUNT.or_none()),
    _row(_aten.adaptive_avg_pool2d.default, TENSOR, WINDOW),
)

_LOSSES = (
    _row(_aten.cross_entropy_loss.default, TENSOR, TENSOR, _TENSOR_OR_NONE, REDUCTION, INDEX, FLOAT),
    _row(_aten.nll_loss_nd.default, TENSOR, TENSOR, _TENSOR_OR_NONE, REDUCTION, INDEX),
    _row(_aten.mse_loss.default, TENSOR, TENSOR, REDUCTION, scratch=bounds.same_shapes),
    _row(_aten.l1_loss.default, TENSOR, TENSOR, REDUCTION, scratch=bounds.same_shapes),
    _row(
        _aten.binary_cross_entropy_with_logits.default,
        TENSOR,
        TENSOR,
        _TENSOR_OR_NONE,
        _TENSOR_OR_NONE,
        REDUCTION,
        scratch=bounds.same_shapes,
    ),
)

OPERATORS: dict[str, Operator] = {
    row.name: row for row in (*_SHAPES, *_NEW_TENSORS, *_ELEMENTWISE, *_REDUCTIONS, *_LAYERS, *_LOSSES)
}
