"""The version of the package, and that of its bits."""

__version__ = "0.1.0"

# The same request gives the same bits for as long as this number stays: it stands for the draws of
# an address, the chunks and the order of every sum. Results and checkpoints name it.
STREAM_VERSION = 2
