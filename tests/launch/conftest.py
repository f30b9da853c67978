"""What every launch starts from: simulated data and a tiny untrained policy, made once per session."""

from __future__ import annotations

from tests.recipes.conftest import catalog, dialogues, files, policy  # noqa: F401
