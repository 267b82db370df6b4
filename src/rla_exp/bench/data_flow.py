"""The figures of docs/kernels.md: which kernel reads and writes what, and who works on what in the one for Hopper."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch

from rla_exp.bench.costs import stored
from rla_exp.report.style import COLOURS, STYLE

PARALLEL, SEQUENTIAL, SAVED, SCRATCH = "#cfe3f1", "#f6d5bd", "#c9e8dd", "#ececec"
PLAIN = "#ffffff"
LOOKS = (
    (PARALLEL, "kernel, parallel over the sequence"),
    (SEQUENTIAL, "kernel, sequential over chunks"),
    (SAVED, "kept from forward to backward"),
    (SCRATCH, "scratch, gone after the pass"),
)
EDGE = "#666666"
Place = tuple[float, float]


@dataclass(frozen=True)
class _Box:
    at: Place
    """Middle."""
    width: float
    height: float
    text: str
    colour: str

    def side(self, to: _Box) -> Place:
        """Where a straight line to another box leaves this one: at the middle of the nearer side."""
        dx, dy = to.at[0] - self.at[0], to.at[1] - self.at[1]
        if abs(dx) * self.height > abs(dy) * self.width:
            return self.at[0] + (self.width / 2 if dx > 0 else -self.width / 2), self.at[1]
        return self.at[0], self.at[1] + (self.height / 2 if dy > 0 else -self.height / 2)


def draw_data_flow() -> Figure:
    """RDN in bfloat16 at K = V = 128: bytes are a token and head, from `costs.stored`."""
    size = {part.what: f"{part.bytes:.0f} B" for part in stored("rdn")}
    checkpoints = next(text for what, text in size.items() if what.startswith("states, float32"))
    with _canvas(96, 74) as (figure, ax):
        ax.text(3, 71.6, "Forward", fontsize=11, fontweight="bold")
        inputs = _Box((9, 60), 12, 9, "q, k, v\ng, beta, gamma", PLAIN)
        inverses = _Box((28, 65), 15, 7, "inverses\nall chunks parallel", PARALLEL)
        systems = _Box((28, 53), 17, 7, f"inverted systems\n({size['inverted systems']})", SAVED)
        prepare = _Box((48, 60), 14, 9, "prepare\nall chunks\nin parallel", PARALLEL)
        matrices = _Box(
            (67, 60),
            18,
            11,
            f"gates by row ({size['gates by row']})\nC x C matrices\n({size['C x C matrices']})",
            SCRATCH,
        )
        forward = _Box(
            (87, 60), 16, 13, "forward S, then R\nchunk after chunk;\nheads, blocks of V\nin parallel", SEQUENTIAL
        )
        o = _Box((91, 45), 7, 5, "o", PLAIN)
        r = _Box((77, 45), 13, 5, f"r ({size['r']})", SAVED)
        states = _Box((56, 45), 21, 6, f"states every 16 chunks\n({checkpoints})", SAVED)
        for start, end in (
            (inputs, inverses),
            (inverses, systems),
            (systems, prepare),
            (prepare, matrices),
            (matrices, forward),
            (forward, o),
            (forward, r),
        ):
            _arrow(ax, start, end)
        ax.add_patch(_line([(80, 53.5), (64, 48)]))
        _elbow(ax, inputs, forward, 70.5)

        ax.text(3, 37.5, "Backward, R and then S", fontsize=11, fontweight="bold")
        again = _Box((10, 29), 14, 9, "prepare again\nall chunks\nin parallel", PARALLEL)
        replay = _Box((42, 29), 19, 9, "replay\nbetween checkpoints\nin parallel", PARALLEL)
        reverse = _Box((79, 29), 21, 9, "reverse\nlast chunk to first;\nheads, blocks of V parallel", SEQUENTIAL)
        old_matrices = _Box((10, 16), 14, 7, "gates by row\nC x C matrices", SCRATCH)
        before = _Box(
            (42, 16),
            24,
            7,
            f"the state before each chunk\n({size['a state before every chunk']}), what it holds at k",
            SCRATCH,
        )
        after = _Box(
            (79, 16),
            26,
            7,
            f"its gradient after each chunk\n({size['its gradient after every chunk']}), solved systems",
            SCRATCH,
        )
        gradients = _Box((42, 4), 24, 6, "gradients, all chunks in parallel;\nR's leave what goes back to S", PARALLEL)
        dv = _Box((91, 4), 7, 6, "dv", PLAIN)
        rest = _Box((12, 4), 18, 6, "dq, dk, dg,\ndbeta, dgamma", PLAIN)
        for start, end in (
            (states, replay),
            (again, old_matrices),
            (replay, before),
            (reverse, after),
            (old_matrices, gradients),
            (before, gradients),
            (after, gradients),
            (gradients, rest),
        ):
            _arrow(ax, start, end)
        ax.plot([89.5, 94, 94], [29, 29, 20], color=COLOURS[0], linewidth=0.9)
        ax.add_patch(_line([(94, 20), (94, 7)]))
        for box in (inputs, inverses, systems, prepare, matrices, forward, o, r, states, again, replay, reverse):
            _draw(ax, box)
        for box in (old_matrices, before, after, gradients, dv, rest):
            _draw(ax, box)
        handles = [Patch(facecolor=colour, edgecolor=EDGE, label=label) for colour, label in LOOKS]
        ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.01, 0.545), frameon=False, fontsize=8)
    return figure


def draw_hopper() -> Figure:
    """The forward pass on Hopper, as `draw_data_flow` has the others."""
    size = {part.what: part.bytes for part in stored("rdn")}
    systems_bytes = size["inverted systems"]
    checkpoints = next(found for what, found in size.items() if what.startswith("states, float32"))
    with _canvas(96, 50) as (figure, ax):
        inputs = _Box((8, 24), 12, 9, "q, k, v\ng, beta, gamma", PLAIN)
        inverses = _Box((24, 39), 14, 7, "inverses\nall chunks parallel", PARALLEL)
        rows = _Box((24, 9), 14, 7, "rows\nall chunks parallel", PARALLEL)
        systems = _Box((42, 43), 15, 6, f"T_b, T_y ({systems_bytes:.0f} B)", SAVED)
        rest = _Box((42, 34), 15, 7, f"what rounding took\nof T_b ({systems_bytes / 2:.0f} B)", SCRATCH)
        gates = _Box((42, 9), 15, 7, f"gates by row\n({size['gates by row']:.0f} B)", SCRATCH)
        kernel = _Box((67.5, 25), 27, 46, "", SEQUENTIAL)
        mixes = _Box((69, 38.5), 21, 8, "make_mixes, a chunk ahead:\nPREDICT, A_s, A", PLAIN)
        state = _Box((69, 24), 21, 8, "carry_state:\nS, r, U, o of S", PLAIN)
        residual = _Box((69, 8), 21, 8, "carry_residual:\nR, W, o; asks for tiles", PLAIN)
        r = _Box((89.5, 33), 11, 5, f"r ({size['r']:.0f} B)", SAVED)
        states = _Box((89.5, 18), 11, 10, f"states\nevery 16\nchunks\n({checkpoints:.0f} B)", SAVED)
        o = _Box((89.5, 5), 11, 5, "o", PLAIN)
        for box in (inputs, inverses, rows, systems, rest, gates, kernel, mixes, state, residual, r, states, o):
            _draw(ax, box)
        ax.text(
            67.5, 45, "forward on Hopper: chunk after chunk;\nheads, blocks of V in parallel", ha="center", fontsize=8
        )
        inside = kernel.at[0] - kernel.width / 2
        for start, end in ((inputs, inverses), (inputs, rows), (inverses, systems), (inverses, rest), (rows, gates)):
            _arrow(ax, start, end)
        for box in (inputs, systems, rest, gates):
            ax.add_patch(_line([(box.at[0] + box.width / 2, box.at[1]), (inside, box.at[1])]))
        _arrow(ax, mixes, state)
        ax.text(70, 31.3, "PREDICT, A_s,\ngates", ha="left", va="center", fontsize=8)
        _arrow(ax, state, residual)
        ax.text(70, 16, "r, o of S", ha="left", va="center", fontsize=8)
        # past S
        lane = (inside + state.at[0] - state.width / 2) / 2
        left = mixes.at[0] - mixes.width / 2
        ax.plot([left, lane, lane], [mixes.at[1], mixes.at[1], residual.at[1]], color=COLOURS[0], linewidth=0.9)
        ax.add_patch(_line([(lane, residual.at[1]), (left, residual.at[1])]))
        ax.text(lane + 0.8, 16, "A, gates", ha="left", va="center", fontsize=8)
        edge = state.at[0] + state.width / 2
        for start, end in ((state, r), (state, states), (residual, states), (residual, o)):
            ax.add_patch(_line([(edge, start.at[1]), (end.at[0] - end.width / 2, end.at[1])]))
    return figure


@contextmanager
def _canvas(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure that is all axes, a tenth of an inch a unit."""
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(width / 10, height / 10), dpi=160)
        FigureCanvasAgg(figure)
        ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        ax.set_xlim(0, width)
        ax.set_ylim(0, height)
        ax.axis("off")
        yield figure, ax


def _draw(ax: Axes, box: _Box) -> None:
    corner = (box.at[0] - box.width / 2, box.at[1] - box.height / 2)
    shape = FancyBboxPatch(
        corner,
        box.width,
        box.height,
        boxstyle="round,pad=0,rounding_size=0.8",
        facecolor=box.colour,
        edgecolor=EDGE,
        linewidth=0.8,
    )
    ax.add_patch(shape)
    ax.text(*box.at, box.text, ha="center", va="center", fontsize=8)


def _arrow(ax: Axes, start: _Box, end: _Box) -> None:
    ax.add_patch(_line([start.side(end), end.side(start)]))


def _elbow(ax: Axes, start: _Box, end: _Box, height: float) -> None:
    """Over what lies between."""
    (x, y), (x_end, y_end) = start.at, end.at
    ax.plot([x, x, x_end], [y + start.height / 2, height, height], color=COLOURS[0], linewidth=0.9)
    ax.add_patch(_line([(x_end, height), (x_end, y_end + end.height / 2)]))


def _line(points: list[Place]) -> FancyArrowPatch:
    return FancyArrowPatch(
        points[0], points[1], arrowstyle="-|>", mutation_scale=9, color=COLOURS[0], linewidth=0.9, shrinkA=0, shrinkB=0
    )
