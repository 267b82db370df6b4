"""A sweep that is killed, starved of disk and given corrupt checkpoints ends with the numbers of an undisturbed one."""

from __future__ import annotations

import sys

import pytest

from rla_exp.cli.fault_test import FaultTestSettings, fault_test
from rla_exp.sweep.faults import FAULTS


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="faults go through Linux's /proc and prlimit")
def test_every_number_survives_every_fault() -> None:
    report = fault_test(FaultTestSettings(seeds=3, faults=len(FAULTS), steps=20, gap=0.3))
    assert report.differing == [], report.text()
    assert report.runs == 12
    assert dict(report.faults) == dict.fromkeys(FAULTS, 1)
    assert report.set_aside == 1
    # three of the kinds end the sweep, the others a job and with it the sweep's success
    assert report.starts >= 3
