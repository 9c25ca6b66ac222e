from __future__ import annotations

from tests.k8s.confinement import confinable

__all__ = ["confinable"]
