"""The typed form of `conf/`: one dataclass a section, one field a key.

Each field's docstring is its documentation. A YAML file of a group names the keys that mean something there;
the defaults here fill the rest, and `rla_exp.config.effects` and `limits` refuse what would do nothing
or cannot be.
Nothing here imports torch: a configuration can be read, checked and planned on a machine that has none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from rla_exp.config.values import (
    Count,
    CountOrZero,
    FolderName,
    Momentum,
    Positive,
    PositiveOrZero,
    Ratio,
    Seed,
    Share,
    Text,
    TextList,
    TwoOrMore,
    false_is_off,
    number_is_text,
)

ModelName = Literal["transformer", "linear_attention", "retnet", "mamba2", "delta_net", "gated_delta_net", "rla", "rdn"]
AblationName = Literal[
    "full",
    "no_residual",
    "tied_gamma",
    "no_gamma",
    "no_norm",
    "no_clip",
    "sum_output",
    "value_state",
    "decayed_prediction",
]

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A causal language model: embeddings, pre-norm blocks of token mixer and MLP, head."""

    __pydantic_config__ = STRICT

    name: ModelName
    """The backbone, as in `conf/model/`."""
    mixer: Literal["attention", "linear"]
    """What mixes tokens: softmax attention, or a recurrent linear mixer."""

    # size (conf/size/)
    d_model: Count
    """Width of the residual stream."""
    num_layers: Count
    """Number of blocks."""
    mlp_dim: Count | None
    """Inner width of the SwiGLU MLP; null leaves the MLP out."""
    num_heads: Count
    """Heads of the linear mixer, query heads of attention."""
    head_dim_k: Count
    """Width of a head's queries and keys; free of d_model."""
    head_dim_v: Count
    """Width of a head's values (equal to head_dim_k in attention)."""
    num_kv_heads: Count | None = None
    """Attention only: key-value groups; null: as many as num_heads."""
    vocab_size: TwoOrMore | None = None
    """Rows of the embedding; null takes what the data's tokenizer needs."""
    tie_embeddings: bool = True
    """One matrix for the embedding and the head."""
    init_std: Positive = 0.02
    """Standard deviation of every matrix at initialization."""
    embedding_std: Positive | None = None
    """Standard deviation of the embedding at initialization; null: init_std."""
    norm_eps: Positive = 1e-6
    """Epsilon of every RMSNorm."""
    rope_base: Positive = 10000.0
    """Base of the rotary frequencies (attention, and retnet's q and k)."""

    # the linear mixer
    rule: Literal["additive", "delta"] = "additive"
    """How states are written: linear attention's sum or the delta rule."""
    decay: Literal["none", "learned", "fixed"] = "none"
    """none: a = 1. learned: a = exp(-A softplus(W x + dt_bias)), Mamba-2's form. fixed: a = 1 - 2^(-5-h), RetNet's."""
    write: Literal["one", "beta", "dt"] = "one"
    """What scales a write: nothing, beta = sigmoid(W x), or Mamba-2's dt (v := dt v)."""
    qk_norm: Literal["l2", "none"] = "l2"
    """Normalization of q and k in each head."""
    qk_activation: Literal["silu", "none"] = "silu"
    """Activation of q and k before their normalization."""
    v_activation: Literal["silu", "none"] = "silu"
    """Activation of v, as Gated DeltaNet has it."""
    rotary: bool = False
    """Rotary positions on q and k (retnet)."""
    conv_size: TwoOrMore | None = 4
    """Kernel of the short causal convolution on q, k and v; null leaves it out."""
    output_gate: bool = True
    """Multiply the normalized output by silu(W x) before the output projection."""
    skip: bool = False
    """Add D v to the output (mamba2)."""

    # residual fitting (rla, rdn)
    residual: Annotated[Literal["off", "fit", "value"], false_is_off] = "off"
    """off: one state. fit: a second state R is fed the clipped residual. value: R is fed v (a control of its size)."""
    gamma: Literal["none", "dedicated", "tied", "one"] = "none"
    """The correction factor: its own sigmoid(W x), beta's value, or 1; none only where the residual is off."""
    clip: Positive | None = 1.0
    """Bound on the residual's entries; null does not clip."""
    output: Literal["gated", "sum"] = "gated"
    """gated: a S_{t-1} q + gamma R q. sum: S_{t-1} q + R q."""
    decayed_prediction: bool = False
    """Beyond the paper: the residual of a S_{t-1} k, the delta rule's own error."""

    backend: Literal["auto", "recurrent", "chunked", "triton"] = "auto"
    """Which implementation of the operator computes."""


@dataclass(frozen=True, kw_only=True)
class MqarSegment:
    """A part of an MQAR split: sequences of one length with one number of pairs."""

    __pydantic_config__ = STRICT

    length: TwoOrMore
    """Tokens a sequence; even, at least 2 (writes + 1) times num_pairs."""
    num_pairs: Count
    """Keys a sequence, each with a value; fewer than a quarter of vocab_size."""
    num_examples: Count
    """Sequences in the segment."""
    writes: Count = 1
    """How often each key gets a value, in random order among all keys; the last one counts. 1 is Zoology's task."""


@dataclass(frozen=True, kw_only=True)
class MqarConfig:
    """Multi-query associative recall, generated (Zoology's task)."""

    __pydantic_config__ = STRICT

    kind: Literal["mqar"]
    name: FolderName
    """The preset's name, part of the run's folder."""
    vocab_size: Annotated[int, Field(ge=4)]
    """Keys come from [1, V/2), values from [V/2, V)."""
    batch_size: Count
    """Sequences a training step."""
    eval_batch_size: Count
    """Sequences a batch of validation and test."""
    train: Annotated[list[MqarSegment], Field(min_length=1)]
    valid: Annotated[list[MqarSegment], Field(min_length=1)]
    test: Annotated[list[MqarSegment], Field(min_length=1)]
    power_a: Positive = 0.01
    """Where queries stand: slot i has probability proportional to a i^(a-1)."""
    random_non_queries: bool = True
    """Fill the places that are neither context nor query with random tokens; false: with token 0."""
    order: Literal["mixed", "shuffled", "sequential"] = "shuffled"
    """mixed: every batch draws from all segments (of one length). shuffled: a batch is of one segment, batches and
    sequences in a new order each epoch. sequential: through the segments as they stand each epoch, as Zoology does."""


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Language modelling on text."""

    __pydantic_config__ = STRICT

    kind: Literal["text"]
    name: FolderName
    """The preset's name, part of the run's folder."""
    source: Literal["stdlib_docs", "stdlib_code", "files", "hub"]
    """The running Python's own documentation or code, local files, or a Hugging Face data set."""
    batch_size: Count
    """Sequences a training step."""
    eval_batch_size: Count
    """Sequences a batch of validation and test."""
    seq_len: TwoOrMore
    """Tokens a sequence."""
    tokenizer: Text = "bytes"
    """bytes, bpe (trained on the training split), or the folder or hub name of a tokenizer."""
    bpe_vocab_size: Annotated[int, Field(ge=257)] = 4096
    """Vocabulary of tokenizer=bpe."""
    document_boundaries: bool = False
    """Pack with cu_seqlens, so that nothing passes from one document to the next."""
    valid_fraction: Share = 0.05
    """Share of the documents held out for validation (chosen by a hash of their name); hub sets that have validation
    and test splits keep them."""
    test_fraction: Share = 0.05
    """Share of the documents held out for the test."""
    max_eval_tokens: Count | None = None
    """Cap on the tokens of each held-out split; null: all."""
    max_bytes: Count | None = None
    """Stop reading the source after so many bytes of text (hub sets: held-out splits their share); null: all."""
    paths: TextList = field(default_factory=list)
    """source=files: files or globs (txt, jsonl, parquet; .gz and .xz too)."""
    test_paths: TextList = field(default_factory=list)
    """source=files: the test split, in files of its own; each file is a domain with metrics of its own. Empty: part of
    paths."""
    test_lengths: list[Count] = field(default_factory=list)
    """Lengths beyond seq_len that the test split is scored at too."""
    text_key: Text = "text"
    """source=files and hub: the field that holds the text."""
    hub_name: Text | None = None
    """source=hub: the data set, for example Salesforce/wikitext."""
    hub_config: Text | None = None
    """source=hub: the data set's configuration."""
    hub_revision: Text | None = None
    """source=hub: commit of the data set."""
    streaming: bool = False
    """source=hub: read without downloading the whole set (needs max_bytes)."""


DataConfig = MqarConfig | TextConfig


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW with linear warm-up and a cosine to a floor."""

    __pydantic_config__ = STRICT

    lr: Positive
    """Peak learning rate."""
    min_lr_ratio: Ratio = 0.1
    """The cosine ends at lr times this."""
    warmup_steps: CountOrZero = 0
    """Optimizer steps of linear warm-up."""
    weight_decay: PositiveOrZero = 0.1
    """On matrices; never on gains, biases, decay parameters and convolutions."""
    beta1: Momentum = 0.9
    beta2: Momentum = 0.95
    eps: Positive = 1e-8
    grad_clip: Positive | None = 1.0
    """Bound on the gradient's norm; null does not clip."""


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How long, where and how a run trains."""

    __pydantic_config__ = STRICT

    max_steps: Count
    """Optimizer steps."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Count = 1
    """Devices of this run."""
    threads: Count = 1
    """CPU threads of this run; part of its identity, for sums depend on it."""
    precision: Annotated[Literal["32", "bf16-mixed", "16-mixed", "bf16-true"], number_is_text] = "32"
    accumulate: Count = 1
    """Batches an optimizer step."""
    overfit_batches: Count | None = None
    """Train on the first batches only, over and over, to see whether a model can learn at all; null: on all."""
    compile: bool = False
    """torch.compile blocks and loss in training."""
    deterministic: bool = True
    """Deterministic algorithms; a kernel that has none raises."""
    validate_every: Count | None = None
    """Steps between validations; null: only at the end."""
    log_every: Count = 20
    """Steps between lines of metrics.jsonl."""
    diagnostics_every: Count | None = None
    """Steps between diagnostics of gates, residuals and states; null: never."""
    checkpoint_every: Count | None = None
    """Steps between checkpoints; null: only at the end and when interrupted."""
    progress: bool = True
    """Progress bar on a terminal."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """A suite of `conf/eval/` while the run trains, beside its validation; it changes nothing in training."""

    __pydantic_config__ = STRICT

    suite: Text | None = None
    """Which suite, for example smoke; null: none."""
    every: Count | None = None
    """Steps between evaluations, the last step has one too; null: only at the end."""
    limit: Count | None = None
    """Documents of each task; null: all."""
    data_dir: Text | None = None
    """Read <data_dir>/<task>/<split>.jsonl instead of the hub."""


@dataclass(frozen=True, kw_only=True)
class LoggerConfig:
    """Where metrics go beside the run's own files."""

    __pydantic_config__ = STRICT

    kind: Literal["offline", "wandb"] = "offline"
    project: Text = "rla_exp"
    entity: Text | None = None
    tags: TextList = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class PathsConfig:
    """Folders, relative to the working directory."""

    __pydantic_config__ = STRICT

    runs: Text = "runs"
    """Where runs are kept."""
    cache: Text | None = None
    """Token caches and trained tokenizers; null: ~/.cache/rla_exp, or $XDG_CACHE_HOME/rla_exp."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that makes one run."""

    __pydantic_config__ = STRICT

    model: ModelConfig
    data: Annotated[MqarConfig | TextConfig, Field(discriminator="kind")]
    optim: OptimConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    paths: PathsConfig
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    seed: Seed = 0
    """Seed of initialization, data order and generated data; 0 is a seed like any other."""
    ablation: AblationName = "full"
    """Which ablation the model runs as; set by the group, not by hand."""
    experiment: FolderName = "default"
    """Name of the study this run belongs to: its folder under runs/."""
    retry_failed: bool = False
    """Train a run again that failed before (no part of its identity)."""
