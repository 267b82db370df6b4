"""The life of a run: finished, skipped, failed, refused."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rla_exp.config import Composed
from rla_exp.config.schema import OptimConfig
from rla_exp.errors import ConfigError, NonFiniteError, RunError
from rla_exp.lit import fit as fit_file
from rla_exp.lit import train_run
from rla_exp.models import LanguageModel
from rla_exp.runs import RunFolder, Status

MakeRun = Callable[..., Composed]


def run_folder(root: Path) -> RunFolder:
    (path,) = root.glob("runs/default/*/seed*")
    return RunFolder(path)


def test_finished_run_leaves_its_files_and_is_skipped(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed = make_run()
    result = train_run(composed)
    folder = run_folder(tmp_path)
    assert folder.path.parent.name.startswith("rdn-full-mqar-")
    assert len(folder.path.parent.name) == len("rdn-full-mqar-") + 8
    assert {path.name for path in folder.path.iterdir()} == {
        "checkpoints",
        "config.yaml",
        "environment.json",
        "lock",
        "log.txt",
        "metrics.jsonl",
        "result.json",
        "status.json",
    }
    assert [path.name for path in folder.checkpoints.iterdir()] == ["last.ckpt"]
    assert set(result.metrics) == {
        *(
            f"{split}/{name}"
            for split in ("valid", "test")
            for name in ("loss", "accuracy", "accuracy@2", "accuracy@4")
        ),
        "parameters",
        "state_bytes",
    }
    assert set(result.timing) == {"tokens_per_s", "seconds", "peak_mib"}
    assert min(result.timing.values()) > 0
    assert result.provenance["device_type"] == "cpu"
    assert result.provenance["corpus_sha256"] is None
    assert result.provenance["sources"] == result.provenance["sources_of_parts"][0]
    assert folder.read_config() == json.loads(json.dumps(composed.resolved))
    status = folder.read_status()
    assert status is not None
    assert (status.state, status.step, status.error) == ("done", 8, None)
    assert [line["step"] for line in folder.read_metrics()] == [2, 4, 6, 8]

    monkeypatch.setattr(fit_file, "fit", None)
    assert train_run(composed) == result


def test_same_settings_same_numbers_and_seed_0_is_a_seed(make_run: MakeRun, tmp_path: Path) -> None:
    first = train_run(make_run(seed=0)).metrics
    run_folder(tmp_path).path.rename(tmp_path / "first")
    torch.manual_seed(12345)
    again = train_run(make_run(seed=0)).metrics
    assert again == first
    assert train_run(make_run(seed=1)).metrics["test/loss"] != first["test/loss"]


def test_settings_of_the_process_are_put_back(make_run: MakeRun) -> None:
    threads = torch.get_num_threads()
    train_run(make_run(threads=threads + 1))
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_compile_is_asked_for(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling itself takes minutes on a CPU; here only what would be compiled is looked at."""
    compiled = []

    def compile_nothing(function: Any) -> Any:
        compiled.append(function.__name__)
        return function

    monkeypatch.setattr(torch, "compile", compile_nothing)
    expected = train_run(make_run()).metrics
    assert compiled == []
    assert train_run(make_run(compile=True)).metrics == expected
    assert compiled == ["run_block", "mean_loss"]


def test_learning_to_recall(make_run: MakeRun) -> None:
    """One batch over and over is learned by heart."""
    optim = OptimConfig(lr=2e-2, warmup_steps=5, weight_decay=0.0)
    composed = make_run(max_steps=120, overfit_batches=1, log_every=10, optim=optim)
    train_run(composed)
    lines = run_folder(Path(composed.config.paths.runs).parent).read_metrics()
    assert lines[0]["train/loss"] > 2.0
    assert lines[-1]["train/loss"] < 0.1


def test_failed_run_is_refused_until_asked(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    composed = make_run()

    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(fit_file, "build_data", broken)
        with pytest.raises(ZeroDivisionError):
            train_run(composed)
    with pytest.raises(RunError, match=r"failed before \(ZeroDivisionError: a bug\); see log.txt.*retry_failed=true"):
        train_run(composed)
    folder = run_folder(tmp_path)
    assert "Traceback" in (folder.path / "log.txt").read_text()
    config = replace(composed.config, retry_failed=True)
    result = train_run(Composed(config, {**composed.resolved, "retry_failed": True}, []))
    assert folder.read_result() == result


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nonfinite_forward_fails_the_run_before_the_step(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    build = fit_file.build_model
    models: list[LanguageModel] = []

    def build_broken(*args: Any) -> LanguageModel:
        models.append(build(*args))
        models[0].blocks[1].mixer.register_forward_hook(poison)
        return models[0]

    calls = []

    def poison(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return output * value if len(calls) >= 3 else output

    monkeypatch.setattr(fit_file, "build_model", build_broken)
    with pytest.raises(NonFiniteError, match=r"^loss is not finite at step 3, beginning in blocks\.1\.mixer"):
        train_run(make_run())
    assert all(bool(torch.isfinite(parameter).all()) for parameter in models[0].parameters())
    folder = run_folder(tmp_path)
    status = folder.read_status()
    assert status is not None
    assert (status.state, status.step) == ("failed", 2)
    assert status.error is not None
    assert status.error.startswith("NonFiniteError: loss is not finite at step 3")
    assert folder.read_result() is None
    assert "NaN" not in (folder.path / "metrics.jsonl").read_text()


def test_nonfinite_gradient_names_the_layer(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    build = fit_file.build_model

    def build_broken(*args: Any) -> LanguageModel:
        model = build(*args)
        weight = model.blocks[0].mixer_norm.weight
        weight.register_hook(lambda gradient: gradient * float("inf"))
        return model

    monkeypatch.setattr(fit_file, "build_model", build_broken)
    with pytest.raises(NonFiniteError, match=r"^gradient is not finite at step 1, beginning in blocks\.0\.mixer_norm$"):
        train_run(make_run(accumulate=2))


def test_nonfinite_held_out_loss(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    build = fit_file.build_model

    def build_broken(*args: Any) -> LanguageModel:
        model = build(*args)
        model.norm.register_forward_hook(lambda *call: call[2] if call[0].training else call[2] * float("nan"))
        return model

    monkeypatch.setattr(fit_file, "build_model", build_broken)
    with pytest.raises(NonFiniteError, match=r"^held-out loss is not finite at step 4, beginning in norm$"):
        train_run(make_run(validate_every=4))


def test_full_disk_keeps_the_earlier_checkpoint(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed = make_run(checkpoint_every=3)
    save, saved = torch.save, []

    def save_until_full(content: object, file: Any) -> None:
        saved.append(1)
        if len(saved) == 2:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(content, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save_until_full)
        with pytest.raises(
            RunError, match=r"last\.ckpt: .*No space left on device; the checkpoint before it is intact"
        ):
            train_run(composed)
    folder = run_folder(tmp_path)
    assert [path.name for path in folder.checkpoints.iterdir()] == ["last.ckpt"]
    status = folder.read_status()
    assert status is not None
    assert (status.state, status.step) == ("interrupted", 6)
    train_run(composed)
    assert "starting from step 3 of 8" in (folder.path / "log.txt").read_text()


def test_folder_that_cannot_be_written(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(RunError, match=r"cannot make .*checkpoints: Not a directory; set paths.runs"):
        train_run(make_run())


def test_run_that_is_being_trained_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    composed = make_run()
    train_run(composed)
    folder = run_folder(tmp_path)
    (folder.path / "result.json").unlink()
    with folder.lock(), pytest.raises(RunError, match=rf"is being trained by process {os.getpid()} on "):
        train_run(composed)


def test_folder_of_another_run_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    composed = make_run()
    train_run(composed)
    file = run_folder(tmp_path).path / "config.yaml"
    file.write_text(file.read_text().replace("lr: 0.01", "lr: 0.02"))
    with pytest.raises(RunError, match=r"is of another run:\n  optim\.lr: 0\.02 in the file, 0\.01 now\n"):
        train_run(composed)


def test_several_devices_are_refused(make_run: MakeRun) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.devices=2: a run trains on one device so far"):
        train_run(make_run(devices=2))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_that_is_not_there(make_run: MakeRun) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.accelerator=gpu: PyTorch sees no CUDA GPU"):
        train_run(make_run(accelerator="gpu"))


def test_vocabulary_smaller_than_the_tokens(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.vocab_size is 20, but the data's tokens go up to 31"):
        train_run(make_run(model={"vocab_size": 20}))
    status = run_folder(tmp_path).read_status()
    assert isinstance(status, Status)
    # nothing was trained and the message says what to do: the run has not failed
    assert status.state == "interrupted"
