"""Spans: in which order the states of chunks are folded.

States of chunks are folded from the left within a span of `SPAN` steps, and the states of spans are
folded from the left. So a machine that has all chunks of a span may fold them, and what it sends
does not grow with their number. Up to 8.4 million independent draws, this is one fold of all
chunks.
"""

from __future__ import annotations

from ..jit.compile import borrower
from .state import COUNT, clear, merge


@borrower
def end_span(earlier, span, iw_sizes):
    """Append the state of a whole span to that of the spans before, and clear it.

    The state before the first span is zeros.
    """
    if earlier[COUNT] == 0.0:
        for field in range(span.shape[0]):
            earlier[field] = span[field]
    else:
        merge(earlier, span, iw_sizes)
    clear(span)
