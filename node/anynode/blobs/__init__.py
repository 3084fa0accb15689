"""Content-addressed blobs: manifests of BLAKE3 chunks and the store that keeps them."""
