"""What the numbers of a gradient do not say."""

from __future__ import annotations

_BIASED = {
    "stl": (
        "For k > 1, sticking-the-landing leaves out the mean of the scores, which is not 0: "
        'estimator="dreg" is unbiased.'
    ),
    "rws": (
        "The wake update of q follows KL(p || q) and not the bound, whose gradient "
        'estimator="dreg" has.'
    ),
}


def note_of(name: str, biased: bool, zeros: int) -> str:
    """A text about an estimator, and about draws of weight 0."""
    notes = [_BIASED[name]] if biased else []
    if zeros and name not in ("vimco", "score"):
        notes.append(
            f"{zeros} draws have weight 0: if log p(x, z) jumps to -inf, and does not fall to it, "
            'this gradient misses what the jump adds; estimator="vimco" and "score" do not.'
        )
    return " ".join(notes)
