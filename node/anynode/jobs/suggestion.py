"""Which optimizer a new job file suggests for a model, by the figures of `scripts/bench loss`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anynode.jobs.graph_format import GraphFault, GraphText, Limits
from anynode.jobs.graph_parse import decode
from anynode_contracts.errors import UserError

_LOOK_UP = "aten.embedding.default"


def suggested_training(graph: GraphText) -> Mapping[str, Any]:
    """Keys of section ``[training]`` that suit the model better than their defaults; none for most models.

    A language model (one that looks up embeddings) with hidden matrices gets Muon and the settings measured with it.
    Its embeddings and its output head, the matrix used last, are left to AdamW.
    """
    matrices = {name for name, spec in graph.parameters.items() if len(spec.shape) == 2}
    uses = [
        (node.operator, argument.value)
        for node in graph.nodes
        for argument in node.arguments
        if argument.tag == "parameter" and argument.value in matrices
    ]
    looked_up = {name for operator, name in uses if operator == _LOOK_UP}
    if not looked_up:
        return {}
    apart = looked_up | {uses[-1][1]}
    if matrices <= apart:
        return {}
    return {
        "optimizer": "muon",
        "muon_except": tuple(sorted(apart)),
        "beta2": 0.95,
        "outer_lr": 1.0,
        "outer_momentum": 0.5,
    }


def suggested_for(path: Path) -> Mapping[str, Any]:
    """The same for the ``model.json`` at ``path``; nothing where there is none yet. Raises ``UserError`` for one that
    cannot be read.
    """
    limits = Limits()
    try:
        with path.open("rb") as file:
            return suggested_training(decode(file.read(limits.file_bytes + 1), limits))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check its permissions") from error
    except GraphFault as fault:
        raise UserError(f"{path} is no model ({fault}); make it again with `anynode export`") from fault
