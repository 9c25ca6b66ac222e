"""Layer 1: Redis, and Redis only here. `keys.py` is the data model, `lua/` the scripts."""
