"""Demo data: real films, made-up users who ask for some and choose, and a teacher who misjudges what is popular."""

from typing import TYPE_CHECKING

from rankrl.lazy import lazy_exports

if TYPE_CHECKING:
    from rankrl.data.simulation.choices import Choices as Choices
    from rankrl.data.simulation.choices import shuffled as shuffled
    from rankrl.data.simulation.requests import Taste as Taste
    from rankrl.data.simulation.requests import write_request as write_request
    from rankrl.data.simulation.simulator import SimulatedData as SimulatedData
    from rankrl.data.simulation.simulator import Simulation as Simulation
    from rankrl.data.simulation.simulator import simulate as simulate

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "choices": ["Choices", "shuffled"],
        "requests": ["Taste", "write_request"],
        "simulator": ["SimulatedData", "Simulation", "simulate"],
    },
)
