"""Stage 1: lists for the model to imitate."""

from typing import TYPE_CHECKING

from rankrl.lazy import lazy_exports

if TYPE_CHECKING:
    from rankrl.demonstrations.popular import popular_items as popular_items
    from rankrl.demonstrations.popular import truth_then_popular as truth_then_popular

__getattr__, __dir__, __all__ = lazy_exports(__name__, {"popular": ["popular_items", "truth_then_popular"]})
