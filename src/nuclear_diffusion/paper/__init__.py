"""What is printed: the terms of the model (Table 1), robust PCA, Algorithm 1, and zea's implementation."""
