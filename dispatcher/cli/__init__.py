"""Layer 3: the `dispatcher` command."""
