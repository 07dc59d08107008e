"""Data: rows from files, folders and the hub, their formats, and an experiment's own copy of what it uses."""

from .columns import unused_columns, unused_sentence
from .conversations import read_conversations, recognise
from .counts import DataCounts, data_notes, item_notes
from .draw import draw, iter_conversations, prepare
from .formats import FORMATS
from .leaks import asked_last, prompt_key
from .markup import chat_markup
from .sources import BadRow, OnBad, good_rows, read_records, read_rows

__all__ = [
    "FORMATS",
    "BadRow",
    "DataCounts",
    "OnBad",
    "asked_last",
    "chat_markup",
    "data_notes",
    "draw",
    "good_rows",
    "item_notes",
    "iter_conversations",
    "prepare",
    "prompt_key",
    "read_conversations",
    "read_records",
    "read_rows",
    "recognise",
    "unused_columns",
    "unused_sentence",
]
