"""A catalogue of items: loads it, names its items in text, and finds them again. Needs only numpy and rapidfuzz.

**Text becomes item ids once, at the catalogue's border. Everything after that is integer and float arrays.**
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from catalog.arrays import load_item_arrays as load_item_arrays
    from catalog.arrays import save_item_arrays as save_item_arrays
    from catalog.catalogue import Catalog as Catalog
    from catalog.items import CatalogError as CatalogError
    from catalog.items import Item as Item
    from catalog.parsing import Line as Line
    from catalog.parsing import parse_list as parse_list
    from catalog.references import ItemReference as ItemReference
    from catalog.titles import title_key as title_key

_MODULES = {
    "Catalog": "catalog.catalogue",
    "CatalogError": "catalog.items",
    "Item": "catalog.items",
    "ItemReference": "catalog.references",
    "Line": "catalog.parsing",
    "load_item_arrays": "catalog.arrays",
    "parse_list": "catalog.parsing",
    "save_item_arrays": "catalog.arrays",
    "title_key": "catalog.titles",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
