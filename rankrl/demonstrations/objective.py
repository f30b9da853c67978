"""What Adjust minimises, and how: L-BFGS in variables in which the curvature is even."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize

from rankrl.demonstrations.likelihood import TruthLikelihood


@dataclass(frozen=True)
class FitReport:
    """How a fit went: what it learned from, and how far it got.

    Attributes:
        num_wanted: wanted items it learned from, over all dialogues.
        num_missing: wanted items that were no candidates of their dialogue and taught nothing.
        loss_start: objective at scale 1 and bias 0.
        loss_end: objective where the fit ended.
        gradient_start: Euclidean norm of the objective's gradient at scale 1 and bias 0.
        gradient_end: that norm where the fit ended.
        num_passes: how often the fit went through the scores.
    """

    num_wanted: int
    num_missing: int
    loss_start: float
    loss_end: float
    gradient_start: float
    gradient_end: float
    num_passes: int


class AdjustObjective:
    """The regularised loss, in variables in which its curvature is about the same in every direction.

    At the optimum the softmax gives an item about as much weight as dialogues wanted it, so the truth alone tells the
    curvature: n for the bias of an item that was wanted n times, n * variance of its scores for its scale once the two
    are decoupled by moving the origin of its scores to their mean. L-BFGS then needs a tenth of the passes.
    """

    def __init__(self, likelihood: TruthLikelihood, regularization: float) -> None:
        self._likelihood = likelihood
        self._regularization = regularization
        self._mean = likelihood.mean
        self._bias_size = np.sqrt(likelihood.times_wanted + 2 * regularization)
        self._scale_size = np.sqrt(
            likelihood.times_wanted * likelihood.variance + 2 * regularization * (1 + self._mean**2)
        )
        self.gradient_norm = np.inf
        self.num_passes = 0

    def encode(self, scale: NDArray[np.float64], bias: NDArray[np.float64]) -> NDArray[np.float64]:
        """The `(2 N,)` variables of an adjustment."""
        return np.concatenate([scale * self._scale_size, (bias + self._mean * scale) * self._bias_size])

    def decode(self, variables: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scale and bias of the variables."""
        scale, level = np.split(variables, 2) / np.stack([self._scale_size, self._bias_size])
        return scale, level - self._mean * scale

    def __call__(self, variables: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The loss and its gradient by the variables; notes the norm of the gradient by scale and bias."""
        scale, bias = self.decode(variables)
        loss, by_scale, by_bias = self._likelihood(scale, bias)
        loss += self._regularization * float(np.sum((scale - 1) ** 2) + np.sum(bias**2))
        by_scale += 2 * self._regularization * (scale - 1)
        by_bias += 2 * self._regularization * bias
        self.gradient_norm = float(np.hypot(np.linalg.norm(by_scale), np.linalg.norm(by_bias)))
        self.num_passes += 1
        return loss, np.concatenate([(by_scale - self._mean * by_bias) / self._scale_size, by_bias / self._bias_size])


def minimize_loss(
    likelihood: TruthLikelihood, regularization: float, tolerance: float, max_iterations: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], FitReport]:
    """Scale and bias of the least loss, from scale 1 and bias 0, and how the fit went.

    Args:
        likelihood: of the wanted items.
        regularization: the L2 weight.
        tolerance: stop where the norm of the gradient by scale and bias is below this share of its start.
        max_iterations: of L-BFGS.

    Raises:
        RuntimeError: if the tolerance was not reached.
    """
    objective = AdjustObjective(likelihood, regularization)
    start = objective.encode(np.ones(likelihood.num_items), np.zeros(likelihood.num_items))
    loss_start, _ = objective(start)
    gradient_start = objective.gradient_norm
    # Where the start is the optimum already, its gradient is rounding and cannot become smaller.
    flat = max(tolerance * gradient_start, 1e-12 * likelihood.num_wanted)

    # scipy's own criteria look at the gradient by the variables, and at its largest entry.
    def stop_when_flat(intermediate_result: OptimizeResult) -> None:
        if objective.gradient_norm <= flat:
            raise StopIteration

    options = {"maxcor": 20, "maxiter": max_iterations, "maxfun": 10 * max_iterations, "ftol": 0, "gtol": 0}
    solution = minimize(objective, start, jac=True, method="L-BFGS-B", callback=stop_when_flat, options=options)
    loss_end, _ = objective(solution.x)
    if objective.gradient_norm > flat:
        raise RuntimeError(
            f"Adjust stopped after {solution.nit} iterations ({solution.message}) with a gradient of "
            f"{objective.gradient_norm / gradient_start:.1g} of its start; wanted is {tolerance:g}. Raise "
            "max_iterations, regularization or tolerance."
        )
    report = FitReport(
        num_wanted=likelihood.num_wanted,
        num_missing=likelihood.num_missing,
        loss_start=loss_start,
        loss_end=loss_end,
        gradient_start=gradient_start,
        gradient_end=objective.gradient_norm,
        num_passes=objective.num_passes,
    )
    scale, bias = objective.decode(solution.x)
    return scale, bias, report
