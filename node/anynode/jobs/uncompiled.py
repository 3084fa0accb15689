"""Keeps PyTorch's compiler out of processes that compile nothing.

At their first call on the device "meta", PyTorch's Python kernels import ``torch._dynamo`` only to mark themselves as
not to be compiled (``torch._compile._disable_dynamo``): 300 modules, and more time than all else that a trainer does at
its start, but for importing torch.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"
_one_at_a_time = threading.Lock()


@contextmanager
def uncompiled() -> Iterator[None]:
    """What is called here for the first time is marked without the compiler, unless that is loaded already.

    Imports torch.
    """
    importlib.import_module("torch")
    with _one_at_a_time:
        if _COMPILER in sys.modules:
            yield
            return
        stand_in = ModuleType(_COMPILER)
        vars(stand_in)["disable"] = _as_it_is
        sys.modules[_COMPILER] = stand_in
        try:
            yield
        finally:
            del sys.modules[_COMPILER]


def _as_it_is(function: Callable[..., Any], _recursive: bool = True, **_options: Any) -> Callable[..., Any]:
    """The one function of the compiler that is asked for: nothing is compiled here anyway."""
    return function
