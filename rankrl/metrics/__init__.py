"""How good ranked lists are, how much of the catalogue they use, and how popular what they show is. Pure NumPy.

Shapes: `ranked` is `(B, K)` int64, item ids in list order with -1 for a rank that names nothing in the catalogue;
`truth` holds per row the wanted item ids, or `{item id: gain}` with gains in (0, 1]. An item counts at its first
occurrence only. `k` may exceed K: a list has nothing to show after its end.
"""

from typing import TYPE_CHECKING

from rankrl.lazy import lazy_exports

if TYPE_CHECKING:
    from rankrl.metrics.lists import coverage_at_k as coverage_at_k
    from rankrl.metrics.lists import in_catalog_share as in_catalog_share
    from rankrl.metrics.lists import repeat_share as repeat_share
    from rankrl.metrics.popularity import Popularity as Popularity
    from rankrl.metrics.popularity import popularity_at_k as popularity_at_k
    from rankrl.metrics.popularity import tail_recall_at_k as tail_recall_at_k
    from rankrl.metrics.popularity import tail_share_at_k as tail_share_at_k
    from rankrl.metrics.protocols import served as served
    from rankrl.metrics.protocols import strict as strict
    from rankrl.metrics.ranking import hit_rate_at_k as hit_rate_at_k
    from rankrl.metrics.ranking import mrr as mrr
    from rankrl.metrics.ranking import ndcg_at_k as ndcg_at_k
    from rankrl.metrics.ranking import recall_at_k as recall_at_k

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "lists": ["coverage_at_k", "in_catalog_share", "repeat_share"],
        "popularity": ["Popularity", "popularity_at_k", "tail_recall_at_k", "tail_share_at_k"],
        "protocols": ["served", "strict"],
        "ranking": ["hit_rate_at_k", "mrr", "ndcg_at_k", "recall_at_k"],
    },
)
