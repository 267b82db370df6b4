"""Run time and memory of the operator on the device at hand, beside other implementations; what its kernels cost.

`run.run_benchmark` measures, `write.write_benchmark` writes. Nothing is imported here: every measuring process imports
this package, and should start fast.
"""
