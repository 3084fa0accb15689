"""Parts of a batch: the sizes below that of a whole batch for which a loss is exported too.

A machine whose memory does not take a whole batch computes its loss and gradient part by part. That is the same only
where the loss of a batch is the mean of the losses of its parts, which is checked on the example batch: a loss that
couples samples, by batch statistics for instance, is exported for whole batches alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from anynode.jobs.graph import LIMITS
from anynode.jobs.graph_format import Argument, GraphText, Node, encode
from anynode.jobs.trace import LossFunction, trace

MEAN_DRIFT_REL_L2_MAX = 1e-3
"""Between the gradient of a batch and the mean of those of its parts, both in float32."""


def with_parts(
    loss_fn: LossFunction,
    params: Mapping[str, Tensor],
    batch: Mapping[str, Tensor],
    whole: tuple[GraphText, dict[str, Tensor]],
) -> tuple[GraphText, dict[str, Tensor]]:
    """The traced graph ``whole`` and its constants, with those of the halvings of the batch that are its parts."""
    text, constants = whole[0], dict(whole[1])
    try:
        expected = loss_and_gradients(loss_fn, params, batch)
    except RuntimeError:
        return whole  # not differentiable: the reader of the graph says why
    size = text.batch_size
    while size % 2 == 0 and len(text.smaller) < LIMITS.smaller:
        size //= 2
        pieces = [
            {name: column[start : start + size] for name, column in batch.items()}
            for start in range(0, text.batch_size, size)
        ]
        try:
            if not _is_mean(expected, [loss_and_gradients(loss_fn, params, piece) for piece in pieces]):
                break
            part, own = trace(loss_fn, params, {name: column.clone() for name, column in pieces[0].items()})
        except Exception:  # the owner's function may raise anything for a size that it was not written for
            break
        joined = dict(constants)
        part = _renamed(part, _joined_names(own, joined))
        grown = replace(text, smaller=(*text.smaller, part), constants={**text.constants, **part.constants})
        nodes = sum(len(graph.nodes) for graph in grown.all_sizes)
        if nodes > LIMITS.nodes or len(encode(grown)) > LIMITS.file_bytes:
            break
        text, constants = grown, joined
    return text, constants


def loss_and_gradients(
    loss_fn: LossFunction, params: Mapping[str, Tensor], batch: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The loss, and the gradient of each parameter that has one, by the name to use in a sentence."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in params.items()}
    loss = loss_fn(dict(leaves), dict(batch))
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    found = {f"the gradient of {name}": grad for name, grad in zip(leaves, gradients, strict=True) if grad is not None}
    return {"the loss": loss.detach(), **found}


def _is_mean(whole: Mapping[str, Tensor], parts: list[dict[str, Tensor]]) -> bool:
    return all(part.keys() == whole.keys() for part in parts) and all(
        _near(value, torch.stack([part[name] for part in parts]).mean(dim=0)) for name, value in whole.items()
    )


def _near(value: Tensor, other: Tensor) -> bool:
    off, size = float((value - other).double().norm()), float(value.double().norm())
    return off <= MEAN_DRIFT_REL_L2_MAX * max(size, 1e-6)


def _joined_names(own: Mapping[str, Tensor], joined: dict[str, Tensor]) -> dict[str, str]:
    """A name in ``joined`` for each constant of a part: that of an equal one, or a new one, which is added."""
    names = {}
    for name, tensor in own.items():
        equal = (known for known, held in joined.items() if held.dtype == tensor.dtype and torch.equal(held, tensor))
        taken = next(equal, None)
        if taken is None:
            taken = f"constant.{1 + max((int(known.partition('.')[2]) for known in joined), default=-1)}"
            joined[taken] = tensor
        names[name] = taken
    return names


def _renamed(part: GraphText, names: Mapping[str, str]) -> GraphText:
    """``part`` with its constants under their new names."""

    def argument(item: Argument) -> Argument:
        if item.tag == "tensors":
            return Argument(item.tag, tuple(map(argument, item.value)))
        return Argument(item.tag, names[item.value]) if item.tag == "constant" else item

    nodes = (Node(node.operator, tuple(map(argument, node.arguments)), node.outputs) for node in part.nodes)
    constants = {names[name]: spec for name, spec in part.constants.items()}
    return replace(part, nodes=tuple(nodes), constants=dict(sorted(constants.items())))
