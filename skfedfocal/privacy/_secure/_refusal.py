"""The one exception of the protocol."""

from __future__ import annotations


class SecureSumError(RuntimeError):
    """A step of a secure sum was refused; nothing that it would have shown was sent."""
