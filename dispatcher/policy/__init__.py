"""Layer 1: pure decisions. The time is an argument; nothing here does I/O."""
