"""An offline run of a few lines in a process of its own, which ends without Python's clean-up, as a sweep's jobs do."""

import os
import sys
from pathlib import Path

from rla_exp.config import compose
from rla_exp.lit.logger import Recorder, wandb_mirror
from rla_exp.runs import RunFolder

if __name__ == "__main__":
    root, seed = Path(sys.argv[1]), sys.argv[2]
    composed = compose(["model=rdn", "data=mqar", "logger=wandb", f"seed={seed}"])
    folder = RunFolder(root / f"rdn-full-mqar-00000000/seed{seed}")
    folder.create()
    with wandb_mirror(composed.config, folder, composed.resolved) as mirror:
        assert mirror is not None
        recorder = Recorder(folder, mirror)
        for step in (1, 2, 3):
            recorder.add({"train/loss": 1 / step})
            recorder.flush(step)
        mirror.summarize({"test/loss": 0.25 + int(seed)})
    os._exit(0)
