"""Demo data: real films, made-up users who ask for some and choose, and a teacher who misjudges what is popular."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankrl.data.simulation.choices import Choices, shuffled
    from rankrl.data.simulation.requests import Taste, write_request
    from rankrl.data.simulation.simulator import SimulatedData, Simulation, simulate

_MODULES = {
    "Choices": "choices",
    "shuffled": "choices",
    "Taste": "requests",
    "write_request": "requests",
    "SimulatedData": "simulator",
    "Simulation": "simulator",
    "simulate": "simulator",
}

__all__ = [
    "Choices",
    "SimulatedData",
    "Simulation",
    "Taste",
    "shuffled",
    "simulate",
    "write_request",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
