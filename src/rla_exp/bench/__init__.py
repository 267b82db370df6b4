"""Run time and memory of the operator on the device at hand, beside other implementations; what its kernels cost."""

from rla_exp.bench.cases import Case, Shape
from rla_exp.bench.run import BenchSettings, run_benchmark
from rla_exp.bench.write import write_benchmark

__all__ = ["BenchSettings", "Case", "Shape", "run_benchmark", "write_benchmark"]
