"""Many clips: scores against the truth, confidence intervals, the demonstration."""
