"""Layer 1: bytes on the wire. Knows no provider."""
