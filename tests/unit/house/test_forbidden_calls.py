"""Nothing that is received is ever executed: the ways of doing that do not occur in the product at all."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from product import ROOT, dotted, every_file, tree

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "jsonpickle", "code", "codeop"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {
    "torch.load",
    "torch.export.load",
    "torch.jit.load",
    "torch.hub.load",
    "torch.package.PackageImporter",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "numpy.load",
    "np.load",
    "sympy.sympify",
    "sympify",
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "runpy.run_path",
    "runpy.run_module",
}


def offences(syntax: ast.Module) -> list[str]:
    """What a file does that it must not, with its line."""
    found = []
    for node in ast.walk(syntax):
        if isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").partition(".")[0]}
            calls = {f"{node.module}.{alias.name}" for alias in node.names} & CALLS
            found += [f"line {node.lineno}: imports {call}" for call in calls]
        elif isinstance(node, ast.Call):
            names = set()
            called = dotted(node.func)
            if called in BUILTINS | CALLS:
                found.append(f"line {node.lineno}: calls {called}")
            for keyword in node.keywords:
                constant = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg in {"shell", "allow_pickle"} and not constant:
                    found.append(f"line {node.lineno}: {keyword.arg}=")
        else:
            continue
        found += [f"line {node.lineno}: imports {name}" for name in names & MODULES]
    return found


@pytest.mark.parametrize("path", every_file(), ids=lambda path: str(path.relative_to(ROOT)))
def test_file(path: Path) -> None:
    assert offences(tree(path)) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "exec(text)",
        "torch.load(path)",
        "from torch import load; from torch.export import load",
        "yaml.load(text)",
        "subprocess.run(text, shell=True)",
        "subprocess.run(text, shell=maybe)",
        "numpy.load(path)",
        "os.system(text)",
        "__import__(name)",
    ],
)
def test_the_check_sees_it(line: str) -> None:
    assert offences(ast.parse(line))


def test_the_check_lets_pass() -> None:
    harmless = "model.eval()\nre.compile(text)\nsafetensors.torch.load_file(path)\nsubprocess.run(text, shell=False)"
    assert offences(ast.parse(harmless)) == []
