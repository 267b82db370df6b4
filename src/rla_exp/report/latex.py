"""table.tex: a booktabs table to \\input into a paper."""

from __future__ import annotations

from itertools import groupby

from rla_exp.report.caption import headers, notes
from rla_exp.report.table import Cell, Table

# what LaTeX reads as a command, and the characters beyond ASCII that tables use
CHARACTERS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "\N{EN DASH}": "--",
    "\N{MINUS SIGN}": "$-$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "▲": r"$\bigtriangleup$",
    "▼": r"$\bigtriangledown$",
    "\N{GREEK SMALL LETTER ALPHA}": r"$\alpha$",
    "\N{GREEK SMALL LETTER BETA}": r"$\beta$",
    "\N{GREEK SMALL LETTER GAMMA}": r"$\gamma$",
}
MARKS = {"better": r"\rlap{$^{\bigtriangleup}$}", "worse": r"\rlap{$^{\bigtriangledown}$}", None: ""}


def escape_latex(text: str) -> str:
    """The text as LaTeX prints it."""
    return "".join(CHARACTERS.get(character, character) for character in text)


def to_latex(table: Table) -> str:
    """A table environment with its caption above and the notes below; it shrinks where the page is too narrow."""
    spec = table.spec
    labels = headers(table)
    lines = [
        r"% \usepackage{booktabs,graphicx}",
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{escape_latex(spec.title)}}}",
        rf"\label{{tab:{spec.name}}}",
        r"\setlength{\tabcolsep}{5pt}",
        r"\resizebox{\ifdim\width>\linewidth \linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'c' * len(labels)}}}",
        r"\toprule",
        *_study_header(labels),
        " & ".join(["", *(_stacked(label) for _, label in labels.values())]) + r" \\",
    ]
    for _, rows in groupby(spec.rows, key=lambda row: row.group):
        members = list(rows)
        lines.append(r"\midrule")
        lines.append(rf"\multicolumn{{{len(labels) + 1}}}{{l}}{{\textbf{{{escape_latex(members[0].group_label)}}}}} \\")
        for row in members:
            cells = [_cell(table.cells[row.id, key]) for key in spec.columns]
            lines.append(" & ".join([rf"\quad {escape_latex(row.label)}", *cells]) + r" \\")
    note_text = " ".join(escape_latex(note) for note in notes(table))
    lines += [
        r"\bottomrule",
        r"\end{tabular}}",
        r"\par\smallskip",
        rf"\begin{{minipage}}{{\linewidth}}\footnotesize Scale {escape_latex(spec.scale)}. {note_text}\end{{minipage}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _study_header(labels: dict[str, tuple[str, str]]) -> list[str]:
    """A line that spans the columns of each study, with a rule below each."""
    spans, rules, position = [], [], 2
    for study, columns in groupby(labels.values(), key=lambda label: label[0]):
        width = len(list(columns))
        spans.append(rf"\multicolumn{{{width}}}{{c}}{{{escape_latex(study)}}}")
        if study:
            rules.append(rf"\cmidrule(lr){{{position}-{position + width - 1}}}")
        position += width
    return [" & ".join(["", *spans]) + r" \\", "".join(rules)]


def _cell(cell: Cell) -> str:
    mean, _, spread = cell.number.partition(" ± ")
    number = escape_latex(mean) + (rf" {{\scriptsize $\pm$ {escape_latex(spread)}}}" if spread else "")
    if cell.best:
        number = rf"\textbf{{{number}}}"
    number += MARKS[cell.mark]
    gaps = rf"{{\scriptsize {escape_latex(cell.gaps)}}}" if cell.gaps else ""
    if cell.number and cell.gaps:
        return rf"\shortstack{{{number}\\{gaps}}}"
    return number or gaps or escape_latex(cell.text)


def _stacked(label: str) -> str:
    """A label in at most two lines, as narrow as they get."""
    words = label.split(" ")
    cuts = [(" ".join(words[:cut]), " ".join(words[cut:])) for cut in range(1, len(words))]
    lines = min(cuts, key=lambda cut: max(len(line) for line in cut), default=(label,))
    return r"\shortstack{" + r"\\".join(escape_latex(line) for line in lines) + "}"
