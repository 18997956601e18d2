"""The error that a service answers with."""

from __future__ import annotations


class RequestError(Exception):
    """A request that can't be done: `status` is the HTTP status, `message` says what is wrong and what to change.

    `warning` is the text of the Warning header, where the standard gives one.
    """

    def __init__(self, status: int, message: str, warning: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.warning = warning

    def __reduce__(self) -> tuple[type[RequestError], tuple[int, str, str | None]]:
        """Return what another process makes it of."""
        return type(self), (self.status, self.message, self.warning)


class LostError(RequestError):
    """A file that isn't there any more: its instance was deleted or replaced meanwhile, and is to be looked up once more."""

    def __init__(
        self, status: int = 502, message: str = "The file of an instance isn't there.", warning: str | None = None
    ) -> None:
        super().__init__(status, message, warning)
