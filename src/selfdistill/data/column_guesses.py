"""Guesses from names and values what columns hold, for the lines that messages offer to paste."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import yaml

from .formats import FORMATS
from .values import is_filled

Records = Sequence[Mapping[str, Any]]

# Names of columns in several languages, in the order of preference, without accents.
_WORDS = {
    "question": (
        "question", "problem", "query", "prompt", "instruction", "task", "input", "user", "request", "title", "text",
        "frage", "anfrage", "aufgabe", "anweisung", "pregunta", "consulta", "instruccion", "demande", "consigne",
        "pergunta", "instrucao", "domanda", "istruzione", "vraag", "opdracht", "pytanie", "soru", "fraga", "вопрос",
        "问题", "指令", "質問", "질문",
    ),
    "answer": (
        "answer", "solution", "response", "output", "completion", "reply", "chosen", "assistant", "target", "label",
        "summary", "antwort", "losung", "loesung", "respuesta", "solucion", "reponse", "resposta", "solucao",
        "risposta", "antwoord", "odpowiedz", "cevap", "yanit", "svar", "ответ", "回答", "答案", "답변",
    ),
    "context": (
        "context", "passage", "document", "background", "paragraph", "article", "kontext", "hintergrund", "contexte",
        "contexto", "contesto", "контекст", "上下文", "文脈",
    ),
    "system": ("system", "persona"),
}  # fmt: skip
_INDEX = re.compile(r"__index_level_\d+__|Unnamed: ?\d+|(?i:(.*[_\W])?(index|idx|u?id|nr|no)|row|level_\d+|)")
_NUMBER = re.compile(r"[-+]?[\d.,]*\d(e[-+]?\d+)?\s*%?", re.IGNORECASE)
_SHOWN = 40  # characters of a value in a message


def suggestion(records: Records, form: str = "auto") -> str | None:
    """The likely value of `data.columns` for rows of questions and answers, as YAML in one line, with the fields of the
    format `form`. None if it isn't clear which columns hold them."""
    if chat := _chat_column(records):
        return flow(chat)
    form = "question_answer" if form == "auto" else form
    fields = list(FORMATS[form].required)
    if len(fields) != 2:
        return None
    texts, some = text_columns(records), text_columns(records, mostly_filled=False)
    context, system = fitting(some, "context"), fitting(some, "system")
    rest = [name for name in texts if name not in (context, system)]
    numbers = [name for name in _filled_columns(records) if name not in texts and not _INDEX.fullmatch(name)]
    answer = fitting(rest, "answer") or fitting(numbers, "answer")
    rest = [name for name in rest if name != answer]
    asking = [name for name in rest if 2 * sum(_asks(text) for text in texts[name]) >= len(texts[name])]
    question = fitting(rest, "question") or next(iter(asking), None)
    if answer and not question and context in texts and not rest:
        question, context = context, None  # a text to summarise
    question = question or (rest[0] if answer and len(rest) == 1 else None)
    others = {name: sum(map(len, texts[name])) for name in rest if name != question}
    answer = answer or max(others, key=lambda name: others[name], default=None)
    if not question or not answer:
        return None
    added = {"input" if "input" in FORMATS[form].fields else "context": context, "system": system}
    return flow({fields[0]: question, fields[1]: answer} | {field: name for field, name in added.items() if name})


def free_column(records: Records, unused: Collection[str], taken: Collection[str], form: str) -> dict[str, str] | None:
    """A column of text among `unused`, and an optional field of the format `form` that could read it and is not in
    `taken`. A column whose name fits the field is preferred. None if there is none."""
    texts = [name for name in text_columns(records, mostly_filled=False) if name in unused]
    free = [field for field in ("input", "context", "system") if field in FORMATS[form].fields and field not in taken]
    named = ((field, fitting(texts, "system" if field == "system" else "context")) for field in free)
    fits = next(({field: name} for field, name in named if name), None)
    return fits or ({free[0]: texts[0]} if free and texts else None)


def text_columns(records: Records, mostly_filled: bool = True) -> dict[str, list[str]]:
    """The texts of each column of text. Indexes, numbers and columns with one value are left out; with `mostly_filled`
    also columns that are filled in fewer than half of the records."""
    return {
        name: values
        for name, values in _filled_columns(records).items()
        if all(isinstance(value, str) for value in values)
        and not (_INDEX.fullmatch(name) or all(_NUMBER.fullmatch(value.strip()) for value in values))
        and not (len(values) > 2 and len(set(values)) == 1)
        and (2 * len(values) >= len(records) or not mostly_filled)
    }


def samples(records: Records) -> str:
    """Each column with its first filled value."""
    shown = []
    for name, values in _filled_columns(records).items():
        text = " ".join(str(values[0]).split())
        shown.append(f"{name} ({text if len(text) <= _SHOWN else f'{text[: _SHOWN - 1]}…'})")
    return ", ".join(shown)


def fitting(columns: Iterable[str], role: str) -> str | None:
    """A column whose name is a word for `role`, or else holds one. Earlier words are preferred."""
    names = {column: _plain(column) for column in columns}
    words = [_plain(word) for word in _WORDS[role]]
    same = (column for word in words for column, name in names.items() if name == word)
    parts = (column for word in words for column, name in names.items() if word in re.split(r"[\W\d_]+", name))
    # Compound words, such as "musterantwort". A short word is in too many others: "text" is in "context".
    inside = (
        column
        for word in words
        for column, name in names.items()
        if word in name and (len(word) >= 5 or not word.isascii())
    )
    return next(same, None) or next(parts, None) or next(inside, None)


def near_name(name: str, names: Collection[str]) -> str | None:
    """The name that was probably meant."""
    plain = {_plain(each): each for each in names}
    near = difflib.get_close_matches(_plain(name), plain, n=1)
    return plain[near[0]] if near else None


def flow(value: Mapping[str, str]) -> str:
    text: str = yaml.safe_dump(
        dict(value), default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False
    )
    return text.strip()


def _chat_column(records: Records) -> dict[str, str] | None:
    for name, values in _filled_columns(records).items():
        first = values[0][0] if isinstance(values[0], list) else None
        if isinstance(first, dict) and {"role", "from"} & first.keys():
            return {"messages" if "role" in first else "conversations": name}
    return None


def _filled_columns(records: Records) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for row in records:
        for name, value in row.items():
            if name.isprintable() and is_filled(value):
                columns.setdefault(name, []).append(value)
    return columns


def _asks(text: str) -> bool:
    return text.rstrip().endswith(("?", "？", "؟"))


def _plain(name: str) -> str:
    """In lower case, camelCase taken apart, without accents."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.strip())
    letters = unicodedata.normalize("NFKD", apart.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))
