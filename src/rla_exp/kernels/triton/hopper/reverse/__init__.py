"""The reverse pass of both states: the gradients that they carry, last chunk to first."""
