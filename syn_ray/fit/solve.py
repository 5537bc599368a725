"""Least squares of the curved forms: many starts or replicates at once, then scipy's search for the last digits."""

from __future__ import annotations

import numpy as np
from scipy import optimize

from syn_ray.core.errors import FitError
from syn_ray.fit.forms import Floats, Form
from syn_ray.fit.points import Points

SWEEPS = 60
"""Steps of `refit`. From the fit's own parameters 10 to 20 are enough; the rest is for flat valleys."""
SETTLED = 1e-9
"""A curve whose step is smaller, relative to its parameters (or to 1), has arrived and is left alone."""


def solve(form: Form, points: Points) -> Floats:
    """Least-squares parameters: the best of all starting points.

    Raises:
        FitError: The search does not converge, or a parameter runs to the edge of what makes sense.
    """
    starts = np.stack(form.starts(points.x, points.y))
    if form.name == "power":  # the start is the least-squares line
        return np.asarray(starts[0])
    reached = refit(form, points.x, np.tile(points.y, (len(starts), 1)), starts)
    squares = ((form.predict(reached, points.x) - points.y) ** 2).sum(axis=1)
    theta = _polish(form, points, reached[squares.argmin()])
    high = form.bounds(points.x, points.y)[1]
    for name, value, edge in zip(form.parameters, theta, high, strict=True):
        if name in form.runaway and value > 0.999 * edge:
            raise FitError(
                f"the law '{form.name}' is not determined by these points: its {name} ran to {value:.4g}, the edge of "
                "the search; train more sizes or choose a form with fewer parameters"
            )
    return theta


def _polish(form: Form, points: Points, start: Floats) -> Floats:
    """The minimum next to the best start reached, by scipy's search, which tells whether it converged."""
    low, high = form.bounds(points.x, points.y)

    def residuals(theta: Floats) -> Floats:
        return form.predict(theta, points.x) - points.y

    found = optimize.least_squares(
        residuals,
        np.clip(start, low, high),
        bounds=(low, high),
        x_scale=np.maximum(np.abs(start), 0.1),
        max_nfev=200,
    )
    if not (found.success and np.isfinite(found.cost)):
        raise FitError(f"the law '{form.name}' did not converge from any of its starting points")
    return np.asarray(found.x, dtype=np.float64)


def refit(form: Form, x: Floats, y: Floats, start: Floats) -> Floats:
    """Least-squares parameters of many curves at once: Levenberg-Marquardt inside the form's bounds.

    All curves step together, which makes a thousand refits cost what a dozen calls of scipy's search do.

    Args:
        form: Their shape.
        x: [runs]
        y: [curves, runs] ln losses.
        start: [parameters] or [curves, parameters] where the searches start.

    Returns:
        [curves, parameters]
    """
    low, high = form.bounds(x, y)
    theta = np.clip(np.broadcast_to(start, low.shape), low, high)
    cost = ((form.predict(theta, x) - y) ** 2).sum(axis=-1)
    damping = np.full(len(y), 1e-3)
    moving = np.arange(len(y))
    for _ in range(SWEEPS):
        old, target, least, most = theta[moving], y[moving], low[moving], high[moving]
        moved = np.clip(old + _step(form, x, target, old, least, most, damping[moving]), least, most)
        new_cost = ((form.predict(moved, x) - target) ** 2).sum(axis=-1)
        better = new_cost < cost[moving]
        theta[moving] = np.where(better[:, None], moved, old)
        cost[moving] = np.where(better, new_cost, cost[moving])
        damping[moving] = np.clip(damping[moving] * np.where(better, 0.3, 4.0), 1e-12, 1e8)
        moving = moving[(np.abs(moved - old) > SETTLED * np.maximum(np.abs(old), 1.0)).any(axis=-1)]
        if not len(moving):
            break
    return theta


def _step(form: Form, x: Floats, y: Floats, theta: Floats, low: Floats, high: Floats, damping: Floats) -> Floats:
    """[curves, parameters] damped Gauss-Newton step; a parameter pressed against its bound stays there."""
    residual = form.predict(theta, x) - y
    nudge = 1e-6 * np.maximum(np.abs(theta), 1.0)
    parameters = range(theta.shape[-1])
    columns = [form.predict(theta + nudge * (np.arange(theta.shape[-1]) == p), x) for p in parameters]
    jacobian = (np.stack(columns, axis=-1) - (residual + y)[..., None]) / nudge[:, None, :]
    gradient = np.einsum("crp,cr->cp", jacobian, residual)
    pressed = ((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0))
    jacobian = np.where(pressed[:, None, :], 0.0, jacobian)
    gradient = np.where(pressed, 0.0, gradient)
    normal = np.einsum("crp,crq->cpq", jacobian, jacobian)
    diagonal = np.einsum("cpp->cp", normal) * damping[:, None] + 1e-12
    normal = normal + diagonal[:, :, None] * np.eye(theta.shape[-1])
    return np.asarray(-np.linalg.solve(normal, gradient[..., None])[..., 0])
