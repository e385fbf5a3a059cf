"""The rotation of quasi-random draws."""

from __future__ import annotations

from .task import Backend, EstimateRequest


def with_rotation(request: EstimateRequest, backend: Backend) -> tuple[EstimateRequest, int]:
    """The request with the rotation of its draws, and the draws of a pilot that it took."""
    return request, 0
