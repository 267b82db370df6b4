"""Text from a trained model: reading prompts, sampling, streaming, decoding states on disk."""

from rla_exp.generation.generator import Completion, Piece, TextGenerator
from rla_exp.generation.reading import DecodingState, read_prompts
from rla_exp.generation.sampling import Sampler, Sampling
from rla_exp.generation.state_file import load_state, save_state

__all__ = [
    "Completion",
    "DecodingState",
    "Piece",
    "Sampler",
    "Sampling",
    "TextGenerator",
    "load_state",
    "read_prompts",
    "save_state",
]
