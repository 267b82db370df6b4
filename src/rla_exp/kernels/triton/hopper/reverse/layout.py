"""What the reverse pass keeps in shared memory and where, beside what layout.py says, and its barriers."""

import triton.experimental.gluon.language as gl

# [64, 64], products of make_scores: A (by the gated output with gamma), A_s and N'; without a residual A alone
SCORES_S = gl.constexpr(0)
SCORES_R = gl.constexpr(1)
SCORES_PREDICT = gl.constexpr(2)
# [64, 64], on their way to memory: lam, v's gradient, mu
LEFT_SOLVED_S = gl.constexpr(0)
LEFT_DV = gl.constexpr(1)
LEFT_SOLVED_R = gl.constexpr(2)
# barriers: what is ready for its readers, or free for its writer; of what there is once a slot, three each
KEYS_READY = gl.constexpr(0)
DONE = gl.constexpr(3)
REST_READY = gl.constexpr(6)
GATES_READY = gl.constexpr(9)
SCORES_S_READY = gl.constexpr(12)
SCORES_S_FREE = gl.constexpr(13)
SCORES_R_READY = gl.constexpr(14)
SCORES_R_FREE = gl.constexpr(15)
SOLVED_READY = gl.constexpr(16)
SOLVED_FREE = gl.constexpr(17)
REST_FREE = gl.constexpr(18)
BARRIERS = gl.constexpr(21)
SMALLEST = gl.constexpr(2.0**-40)
"""Below this a row of float16 counts as nothing."""
