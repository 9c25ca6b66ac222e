"""Layer 3: the HTTP API."""
