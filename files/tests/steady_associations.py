"""Associations of the tests' own clients, which pynetdicom makes: on a busy machine the answers of some are lost without this."""

from __future__ import annotations

from typing import Any

from dimse.association import steady
from pynetdicom import AE
from pynetdicom.association import Association

_associate = AE.associate


def _steadily(self: AE, *arguments: Any, **options: Any) -> Association:
    return steady(_associate(self, *arguments, **options))


def everywhere() -> None:
    """Have every association of this process be a steady one."""
    AE.associate = _steadily
