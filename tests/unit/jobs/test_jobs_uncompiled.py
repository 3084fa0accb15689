"""That a graph's dry run does without PyTorch's compiler, and that whoever wants the compiler has it afterwards."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import torch
from anynode.jobs.uncompiled import uncompiled

def added():
    with torch.device("meta"):
        return torch.nn.functional.gelu(torch.ones(2, 2) + torch.ones(2, 2))

with uncompiled():
    assert added().shape == (2, 2)
assert not [name for name in sys.modules if name.startswith(("torch._dynamo", "torch._inductor"))]
assert added().shape == (2, 2)
assert "torch._dynamo" not in sys.modules

import torch._dynamo
assert torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(1)).item() == 1
with uncompiled():
    assert sys.modules["torch._dynamo"].optimize, "the compiler that was there is left in its place"
"""


def test_what_was_called_once_needs_no_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
