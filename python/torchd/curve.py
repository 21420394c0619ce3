"""A small curve as SVG, which a notebook shows without a library."""

import math
from collections.abc import Sequence

WIDTH, HEIGHT, POINTS = 240, 60, 240


def svg(steps: Sequence[int], values: Sequence[float]) -> str:
    """The curve of values by step; nothing where there are fewer than two numbers to draw."""
    pairs = [(step, value) for step, value in zip(steps, values) if math.isfinite(value)]
    if len(pairs) < 2:
        return ""
    every = -(-len(pairs) // POINTS)
    pairs = pairs[::every] if pairs[-1] in pairs[::every] else [*pairs[::every], pairs[-1]]
    low, high = min(value for _, value in pairs), max(value for _, value in pairs)
    first, last = pairs[0][0], pairs[-1][0]

    def place(step: int, value: float) -> str:
        across = (step - first) / ((last - first) or 1) * (WIDTH - 4) + 2
        down = (high - value) / ((high - low) or 1) * (HEIGHT - 4) + 2
        return f"{across:.1f},{down:.1f}"

    line = " ".join(place(step, value) for step, value in pairs)
    return (f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="from {values[0]:.4g} to {values[-1]:.4g}">'
            f'<polyline points="{line}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>')
