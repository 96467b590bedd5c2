# SPDX-License-Identifier: Apache-2.0
"""What can be started and stopped, as a context."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Startable(ABC):
    """Started at the beginning of a `with` block, and stopped at its end."""

    @abstractmethod
    def start(self) -> object:
        """Begin, or raise and leave nothing behind."""

    @abstractmethod
    def stop(self) -> object:
        """End; nothing to do if it does not run."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
