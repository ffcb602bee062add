"""The application: from a hazy clip to a result folder."""
