from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rla_exp.report import Table
from rla_exp.report.latex import escape_latex, to_latex

DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs,graphicx}
\begin{document}
\input{table.tex}
\end{document}
"""
PDFLATEX = shutil.which("pdflatex")


def test_what_latex_would_read_as_a_command_is_escaped() -> None:
    assert escape_latex(r"50% of a_b & {c} #1 $x^2 ~ \d") == (
        r"50\% of a\_b \& \{c\} \#1 \$x\textasciicircum{}2 \textasciitilde{} \textbackslash{}d"
    )
    assert escape_latex("0.9 ± 0.1 \N{EN DASH} ▼") == r"0.9 $\pm$ 0.1 -- $\bigtriangledown$"


def test_the_rows_of_the_table(table: Table) -> None:
    lines = to_latex(table).splitlines()
    head = lines.index(r"\toprule")
    assert lines[head - 1 : head + 4] == [
        r"\begin{tabular}{lcccccc}",
        r"\toprule",
        r" & \multicolumn{4}{c}{MQAR} & \multicolumn{1}{c}{Text} & \multicolumn{1}{c}{} \\",
        r"\cmidrule(lr){2-5}\cmidrule(lr){6-6}",
        r" & \shortstack{accuracy\\$\uparrow$} & \shortstack{learned} & \shortstack{state} & \shortstack{tokens/s} & "
        r"\shortstack{bits\\$\downarrow$} & \shortstack{failed} \\",
    ]
    assert lines[head + 4 : head + 9] == [
        r"\midrule",
        r"\multicolumn{7}{l}{\textbf{RLA}} \\",
        r"\quad full & \textbf{0.920 {\scriptsize $\pm$ 0.020}} & 2 of 3 & 4 KiB & 21.2k {\scriptsize $\pm$ 0.2k} & "
        r"\textbf{2.12 {\scriptsize $\pm$ 0.12}} & 0 of 6 \\",
        r"\quad no\_clip & 0.520 {\scriptsize $\pm$ 0.026}\rlap{$^{\bigtriangledown}$} & 0 of 3 & 8 KiB & "
        r"21.2k {\scriptsize $\pm$ 0.2k} & -- & 0 of 3 \\",
        r"\quad $\gamma$ = 1 & \shortstack{0.940 {\scriptsize $\pm$ 0.014}\\{\scriptsize failed (1 of 3)}} & 2 of 3 & "
        r"8 KiB & \shortstack{1.00k {\scriptsize $\pm$ 0.00k}\\{\scriptsize failed (1 of 3)}} & "
        r"2.38 {\scriptsize $\pm$ 0.12}\rlap{$^{\bigtriangledown}$} & 1 of 6 \\",
    ]


def test_it_is_well_formed(table: Table) -> None:
    text = to_latex(table)
    assert text.isascii()
    unescaped = re.sub(r"\\[\\{}]", "", text)
    depth = 0
    for character in unescaped:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    begun = re.findall(r"\\begin\{(\w+)\}", text)
    assert sorted(begun) == sorted(re.findall(r"\\end\{(\w+)\}", text)) == ["minipage", "table", "tabular"]
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\") and r"\multicolumn{7}" not in line]
    # a header of spans, one of labels, six rows
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [3] + 7 * [6]


@pytest.mark.skipif(PDFLATEX is None, reason="pdflatex is not installed: that table.tex compiles is not tested here")
def test_it_compiles(table: Table, tmp_path: Path) -> None:
    (tmp_path / "table.tex").write_text(to_latex(table), encoding="utf-8")
    (tmp_path / "paper.tex").write_text(DOCUMENT, encoding="utf-8")
    command = [str(PDFLATEX), "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert run.returncode == 0, run.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 1000
    # the table shrinks to the page
    assert "Overfull" not in (tmp_path / "paper.log").read_text(encoding="utf-8", errors="replace")
