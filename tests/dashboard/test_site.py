"""The files of the site: what is in them, what they replace, and that nothing in them comes from elsewhere."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from rla_exp.cli import dashboard as command
from rla_exp.dashboard import build_site
from rla_exp.errors import UserError
from rla_exp.runs import RunFolder
from rla_exp.runs.evaluations import Evaluation, Score, TaskScores, write_evaluation

MakeRun = Callable[..., RunFolder]
# plotly.js-basic-dist-min 4.1.1 as npm serves it
PLOTLY_SHA256 = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"
KEY = "study/rdn-full-mqar-00000001"


def data_of(site: Path, name: str) -> Any:
    """The last argument of the call in a file of data/."""
    text = (site / "data" / name).read_text(encoding="utf-8")
    return json.loads(f"[{text[text.index('(') + 1 : text.rindex(')')]}]")[-1]


@pytest.fixture
def site(make_run: MakeRun, tmp_path: Path) -> Path:
    for seed in (0, 1):
        make_run(tmp_path / "runs", KEY, seed=seed, num_layers=2)
    make_run(tmp_path / "runs", "study/rla-full-mqar-00000002", state="failed", error="loss <b>nan</b>", rows=[])
    return build_site(tmp_path / "runs", tmp_path / "results", tmp_path / "site").index.parent


def test_pages_and_data(site: Path) -> None:
    files = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert {"index.html", "curves.html", "layers.html", "tables.html", "data/index.js"} < files
    assert {f"runs/{KEY}/seed0.html", f"runs/{KEY}/seed1.html"} < files
    assert {name for name in files if name.startswith("data/layers")} == {"data/layers/0.js"}
    first, second = data_of(site, "index.js")
    assert first["seeds"] == {"0": f"{KEY}/seed0", "1": f"{KEY}/seed1"}
    assert first["final"]["test/accuracy"] == {"n": 2, "mean": 0.505, "sd": 0.0070711}
    assert (first["layers"], second["layers"]) == (True, False)
    assert second["states"] == {"failed": 1}


def test_curves_are_those_of_the_metrics(site: Path, tmp_path: Path) -> None:
    curves = data_of(site, "curves/0.js")
    rows = [RunFolder(tmp_path / "runs" / KEY / f"seed{seed}").read_metrics() for seed in (0, 1)]
    loss = curves["train/loss"]
    assert loss["steps"] == [row["step"] for row in rows[0]]
    means = [(a["train/loss"] + b["train/loss"]) / 2 for a, b in zip(*rows, strict=True)]
    assert loss["mean"] == pytest.approx(means, rel=1e-4)
    assert loss["seeds"]["1"] == pytest.approx([row["train/loss"] for row in rows[1]], rel=1e-4)
    assert set(loss["n"]) == {2}
    assert not [name for name in curves if name.startswith("diag/")]
    layers = data_of(site, "layers/0.js")
    assert set(layers) == {"gamma_mean", "residual_norm", "share_clipped"}
    assert list(layers["gamma_mean"]) == ["0", "1"]


def test_a_run_page_tells_the_run(site: Path) -> None:
    page = (site / "runs" / KEY / "seed0.html").read_text(encoding="utf-8")
    for words in (
        "test/accuracy",
        "A processor",
        "0" * 40,
        "&#34;name&#34;: &#34;rdn&#34;",
        "starting from step 0 of 2000",
        "4.0 KiB",
    ):
        assert words in page, words
    failed = (site / "runs/study/rla-full-mqar-00000002/seed0.html").read_text(encoding="utf-8")
    assert "loss &lt;b&gt;nan&lt;/b&gt;" in failed
    assert "<b>nan" not in failed


def test_a_run_page_has_the_scores_of_evaluations(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "runs", KEY)
    scores = TaskScores("1", 50, {"acc": Score(0.4375, 0.0125, True)}, 1.0, "generated")
    write_evaluation(folder.path, Evaluation("language", {}, {}, {"arc_easy": scores}))
    site = build_site(tmp_path / "runs", tmp_path / "results", tmp_path / "site").index.parent
    page = (site / "runs" / KEY / "seed0.html").read_text(encoding="utf-8")
    assert "<dt>eval/language/arc_easy/acc</dt><dd>0.4375 ± 0.013</dd>" in page


def test_every_link_leads_to_a_file_of_the_site(site: Path) -> None:
    for page in site.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"]*)"', page.read_text(encoding="utf-8")):
            if not link.startswith(("data:", "#")):
                assert (page.parent / link.partition("#")[0]).is_file(), f"{page}: {link}"


def test_the_chart_library_is_the_one_that_was_published(site: Path) -> None:
    content = (resources.files("rla_exp.dashboard") / "static/vendor/plotly-basic.min.js").read_bytes()
    assert hashlib.sha256(content).hexdigest() == PLOTLY_SHA256
    assert (site / "assets/plotly-basic.min.js").read_bytes() == content


def test_only_a_dashboard_is_replaced(site: Path, tmp_path: Path) -> None:
    (site / "stale.html").write_text("")
    build_site(tmp_path / "runs", tmp_path / "results", site)
    assert not (site / "stale.html").exists()
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.tex").write_text("words")
    with pytest.raises(UserError, match=r"thesis is not a dashboard.*out=FOLDER"):
        build_site(tmp_path / "runs", tmp_path / "results", other)
    assert (other / "chapter.tex").read_text() == "words"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "site", "thesis"]


def test_no_runs_is_a_site_too(tmp_path: Path) -> None:
    built = build_site(tmp_path / "runs", tmp_path / "results", tmp_path / "site")
    assert (built.records, built.num_tables) == ([], 0)
    assert "There are no runs yet" in built.index.read_text(encoding="utf-8")


def test_the_command(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(tmp_path / "runs", KEY)
    (folder.path / "status.json").write_text("{")
    monkeypatch.chdir(tmp_path)
    assert command.main([]) == 0
    out, err = capsys.readouterr()
    assert "1 runs, 0 tables: dashboard/index.html" in out
    assert "status.json" in err
    assert command.main(["ruins=x"]) == 1
    assert "did you mean runs" in capsys.readouterr().err
