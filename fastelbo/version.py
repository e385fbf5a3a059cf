"""The version of the package, and the version of the exact bits of its results."""

__version__ = "0.1.0"

# While this number stays the same, the same request gives the same bits. It covers the draws of an
# address, the chunks and the order of every sum. Results and checkpoints store it.
STREAM_VERSION = 4
