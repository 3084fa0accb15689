"""Prints the test vectors of exact arithmetic as this process computes them.

python tests/unit/exact/exact_vectors.py          print them
python tests/unit/exact/exact_vectors.py --write  renew vectors.json: a change of protocol, never a repair
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from anynode.exact import vectors

if __name__ == "__main__":
    text = json.dumps(vectors.compute(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if "--write" in sys.argv:
        Path(vectors.__file__).with_name(vectors.FILE).write_text(text, encoding="utf-8")
    sys.stdout.write(text)
