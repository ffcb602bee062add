"""The paper's methods: the terms of its model (Table 1), robust PCA, Algorithm 1, and zea's implementation."""
