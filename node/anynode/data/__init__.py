"""Data sets: packed safetensors shards with a manifest."""
