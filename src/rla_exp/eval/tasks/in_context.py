"""Recall from a passage that stands in the prompt, as a cloze whose completion must contain the answer.

The form in which the field compares linear models by recall (Arora et al., 2024, arXiv 2402.18668 and 2407.05483), on
the data sets they published. lm-eval's tasks triviaqa, nq_open and drop are others: closed book, or scored otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any


def passage_and_question(doc: Mapping[str, Any]) -> str:
    """`<passage>. <question as the beginning of a sentence>`; a passage that already ends so says it once."""
    question = str(doc["question"]).strip()
    passage = re.sub(r"\[(?:PAR|DOC|TLE)\]", "", str(doc["context"])).strip()
    while question and passage.lower().endswith(question.lower()):
        passage = passage[: -len(question)].rstrip()
    return f"{passage.strip('.')}. {question}"


def cloze(doc: Mapping[str, Any]) -> str:
    """A document whose text breaks off before the value."""
    return str(doc["text"]).strip()


def score_answers(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, int]:
    """Whether any of the answers stands in the completion; upper and lower case are the same."""
    return {"contains": int(any(contains(results[0], answer) for answer in doc["answers"]))}


def score_value(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, int]:
    """Whether the value stands in the completion; upper and lower case are the same."""
    return {"contains": int(contains(results[0], doc["value"]))}


def contains(completion: str, answer: object) -> bool:
    """Whether the answer, without the white space around it, is a part of the completion."""
    return str(answer).strip().lower() in completion.lower()
