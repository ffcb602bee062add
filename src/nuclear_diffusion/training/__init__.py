"""Train a prior on clips, and report whether it is better than the previous one."""
