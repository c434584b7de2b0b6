"""The geometry of a cell as an arc diagram: node n lies at (n, 0), edges pass above the nodes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RADIUS = 0.21
"""Radius of a node; the distance between neighbours is 1."""


def apex(level: float) -> float:
    """Height of an edge that passes over ``level`` nodes."""
    return 0.14 + 0.46 * level if level else 0.0


def bezier(source: int, target: int, level: float, arrow: float) -> npt.NDArray[np.float64]:
    """Control points [4, 2] from the rim of one node to ``arrow`` before the rim of the other.

    Long edges leave more steeply than short ones, so that edges of one node do not run together.
    """
    angle = np.deg2rad(90 - 54 * 0.65 ** (level - 1)) if level else 0.0
    rise = np.array([np.cos(angle), np.sin(angle)])
    fall = rise * [-1, 1]
    start = np.array([source, 0]) + RADIUS * rise
    end = np.array([target, 0]) + (RADIUS + arrow) * fall
    if not level:
        return np.linspace(start, end, 4)
    height = (apex(level) - (start[1] + end[1]) / 8) / 0.75
    handle = min(height / np.tan(angle), (target - source) / 2)
    return np.array([start, (source + handle, height), (target - handle, height), end])


def arrowhead(points: npt.NDArray, length: float, width: float) -> npt.NDArray[np.float64]:
    """Corners [3, 2] of the triangle that continues the curve."""
    tangent = (points[3] - points[2]) / np.linalg.norm(points[3] - points[2])
    side = (0.05 + 0.012 * width) * np.array([-tangent[1], tangent[0]])
    return np.stack([points[3] + side, points[3] - side, points[3] + length * tangent])
