"""Properties that are computed once."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from functools import cached_property
else:

    class cached_property(functools.cached_property):  # noqa: N801
        """One without a lock.

        Before Python 3.12 there is one for all instances of a class, held while a value is
        computed. Threads wait for one another then, and a process that is forked meanwhile waits
        for ever. Here threads that ask at the same time may compute the same value, and all get the
        first.
        """

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            if instance is None:
                return self
            values = instance.__dict__
            if self.attrname not in values:
                values.setdefault(self.attrname, self.func(instance))
            return values[self.attrname]


__all__ = ["cached_property"]
