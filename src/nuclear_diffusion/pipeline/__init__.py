"""One clip: read it, find the sector, fit it to the prior, separate, map the haze back, write the results."""
