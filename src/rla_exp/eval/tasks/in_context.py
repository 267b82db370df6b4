"""Recall from a passage that stands in the prompt, as a cloze whose completion must contain the answer.

The form in which the field compares linear models by recall (Arora et al., 2024, arXiv 2402.18668 and 2407.05483), on
the data sets they published. Their fields: `context`, `question` and `answers` of DROP, NQ and TriviaQA; `text` and
`value` of SQuAD, SWDE and FDA, of which the latter two also have `key`. lm-eval's tasks triviaqa, nq_open and drop are
others: closed book, or scored otherwise; its swde and fda take the text as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rla_exp.errors import DataError

_SUMMARY = "Summary of information above..."
"""What stands in SWDE between a page and the line that asks for a value."""


def passage_and_question(doc: Mapping[str, Any]) -> str:
    """`<context>. <question as the beginning of a sentence>`; a context that already ends so says it once.

    Raises:
        DataError: the answers are no list; told with the prompts, before anything is generated.
    """
    _answers(doc)
    passage = re.sub(r"\[(?:PAR|DOC|TLE)\]", "", str(doc["context"]))
    return _asked(passage, str(doc["question"]).strip())


def text_and_key(doc: Mapping[str, Any]) -> str:
    """`<text>. <Key>:`; a text that already ends so, or in SWDE's summary, says it once."""
    key = str(doc["key"]).strip()
    return _asked(str(doc["text"]).partition(_SUMMARY)[0], f"{key[:1].upper()}{key[1:]}:")


def cloze(doc: Mapping[str, Any]) -> str:
    """A text that breaks off before the value."""
    return str(doc["text"]).strip()


def _asked(passage: str, question: str) -> str:
    passage = passage.strip()
    while question and passage.lower().endswith(question.lower()):
        passage = passage[: -len(question)].rstrip()
    return f"{passage.strip('.')}. {question}"


def score_answers(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, int]:
    """Whether any of the answers stands in the completion; upper and lower case are the same."""
    return {"contains": int(any(contains(results[0], answer) for answer in _answers(doc)))}


def score_value(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, int]:
    """Whether the value stands in the completion; upper and lower case are the same."""
    return {"contains": int(contains(results[0], doc["value"]))}


def contains(completion: str, answer: object) -> bool:
    """Whether the answer, without the white space around it, is a part of the completion; an empty one never is."""
    wanted = str(answer).strip().lower()
    return bool(wanted) and wanted in completion.lower()


def _answers(doc: Mapping[str, Any]) -> Sequence[Any]:
    answers = doc["answers"]
    # a string would be taken for a list of its letters
    if not isinstance(answers, list | tuple):
        raise DataError(
            f"answers={answers!r} of the question {str(doc['question'])!r}: must be a list of strings, as [{answers!r}]"
        )
    return answers
