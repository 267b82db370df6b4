"""A sweep in a process of its own, to be killed: `python sweep_script.py FOLDER NUM_JOBS STEPS PAUSE`."""

import sys
from pathlib import Path

import fake_training

from rla_exp.sweep import server
from rla_exp.sweep.run import run_sweep

if __name__ == "__main__":
    # these runs need no torch; importing it is most of the time of a sweep so small
    server.PRELOADED = ("rla_exp.sweep.detach",)
    root, num_jobs, steps, pause = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    jobs = [fake_training.make_job(root / f"run{number}", steps=steps, pause=pause) for number in range(num_jobs)]
    outcomes = run_sweep(jobs, num_workers=2)
    sys.exit(any(outcome.state in ("failed", "interrupted") for outcome in outcomes))
