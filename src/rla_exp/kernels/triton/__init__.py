"""The operator in Triton: kernels, their launches, and the PyTorch operator around them. Needs triton and a GPU."""
