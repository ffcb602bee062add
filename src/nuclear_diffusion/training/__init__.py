"""From clips to a prior, and to the verdict whether it is better than the one before."""
