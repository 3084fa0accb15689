"""Benchmarks, each a module of this folder: ``scripts/bench NAME [--json] [--deep] [--save]``.

A module ``NAME`` (with ``-`` as ``_``) has a docstring that says in its first line what it measures, and
``measure(deep, say) -> Report``. The table goes to people; with --json the report's keys follow as one object on the
last line; --save keeps them under ``docs/evidence``. The exit code is 1 when a side could not be run or a goal was
missed.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import signal
import sys
from pathlib import Path

# The processes of the demo, of the tests and of these benchmarks are started and ended by one piece of code.
sys.path.insert(0, str(Path(__file__).parents[1] / "run_demo"))

from report import Report, save, show

from anynode_contracts.errors import UserError

HERE = Path(__file__).parent


def names() -> dict[str, str]:
    """Every benchmark, with the first line of its docstring. Nothing is imported for it."""
    found = {}
    for path in sorted(HERE.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "measure" for node in tree.body):
            found[path.stem.replace("_", "-")] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main() -> int:
    known = names()
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure AnyNode, beside its peers where there are any.",
        epilog="\n".join(f"  {name:<10} {line}" for name, line in known.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", choices=sorted(known), metavar="NAME")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object on the last line")
    parser.add_argument("--deep", action="store_true", help="the long form, where a benchmark has one")
    parser.add_argument("--save", action="store_true", help="keep the figures under docs/evidence")
    options = parser.parse_args()
    if options.name is None:
        parser.print_help()
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    bench = importlib.import_module(options.name.replace("-", "_"))
    try:
        report: Report = bench.measure(options.deep, lambda line: print(line, file=sys.stderr, flush=True))
    except KeyboardInterrupt:
        print("scripts/bench: stopped; everything it started has ended", file=sys.stderr)
        return 130
    except UserError as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return 1
    print(show(report))
    if options.save:
        command = f"scripts/bench {options.name}" + (" --deep" if options.deep else "")
        print(f"kept in {save(options.name, command, report)}", file=sys.stderr)
    if options.json:
        print(json.dumps(report.keys))
    return 0 if report.reached else 1


if __name__ == "__main__":
    sys.exit(main())
