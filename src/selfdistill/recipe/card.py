"""What only the user can say on the cards of models and data."""

from __future__ import annotations

from .settings import Settings


class CardConfig(Settings):
    """The cards that a run writes for sharing (docs/sharing.md)."""

    license: str | None = None
    """Licence of the tuned model, by the hub's identifier, such as apache-2.0."""
    data_license: str | None = None
    """Licence of the rewritten data, by the hub's identifier, such as cc-by-4.0."""
