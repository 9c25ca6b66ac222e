"""Benchmarks: `./run bench` runs all, `./run bench NAME` one."""
