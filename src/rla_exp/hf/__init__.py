"""Our models in the form of transformers.

Importing this room makes `AutoConfig` and `AutoModelForCausalLM` know them; nothing else is needed to load an exported
folder, and no code comes from it.
"""

from transformers import AutoConfig, AutoModelForCausalLM

from rla_exp.hf.cache import RecurrentCache
from rla_exp.hf.configuration import RlaExpConfig
from rla_exp.hf.modeling import RlaExpForCausalLM

AutoConfig.register(RlaExpConfig.model_type, RlaExpConfig)
AutoModelForCausalLM.register(RlaExpConfig, RlaExpForCausalLM)

__all__ = ["RecurrentCache", "RlaExpConfig", "RlaExpForCausalLM"]
