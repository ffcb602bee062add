"""napari plugin: read clips and results, dehaze in the background, score drawn regions live."""
