"""The product: from a hazy clip to a result folder."""
