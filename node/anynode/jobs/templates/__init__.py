"""Models to start from. Each module has ``build(...)`` and a small ``tiny()``; both give an ``Exportable``."""
