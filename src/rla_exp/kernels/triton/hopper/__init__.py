"""The kernels for Hopper: forward and reverse pass of both states in one kernel each, and the gradients of q, k, gates.

In `forward/` a program carries 64 columns of V of a head over the chunks of a sequence. Groups of four warps run side
by side:

- `mixes.make_mixes`, a chunk ahead, makes what depends on q, k and the gates alone: PREDICT, A_s and A.
- `states.carry_state` carries S, transposed, [BV, K], in its registers.
- `states.carry_residual` carries R likewise, a part of a chunk behind, and takes r and o of S from it. It also asks the
  copy engine for tiles (`forward/loads.py`), up to three chunks ahead.

A state by itself, where there is no residual or sequences are cut into segments, asks for its tiles: then R gets r and
o of S from memory.

In `reverse/` the groups are `scores.make_scores` and, for each state's gradient, `states.carry_gradient`, R ahead of S,
and one warp that asks for tiles (`reverse/loads.py`).

States and what is multiplied with them are transposed: what multiplies from the left is then always the result of the
product before, in the registers where it is, and needs neither shared memory nor a barrier. The groups wait for one
another at barriers in shared memory (`forward/layout.py`, `reverse/layout.py`). Written in Gluon, part of Triton, which
leaves to its kernels what Triton decides by itself: which warps do what, where tensors lie, and when a product is
waited for.

In `gradients/` there is one state a launch. `states.carry_state` carries it again from a checkpoint, a chunk ahead of
`sums.make_gradients`, which makes the gradients of q, k and the gates; tiles are asked for as soon as there is a place
(`gradients/slots.py`).

The three do not import one another; `launch.py` runs them.
"""
