"""Rows from files, folders and the hub, their formats, and the experiment's own copy of the rows that it uses."""

from .bad_rows import BadRow, OnBad, good_rows
from .columns import unused_columns, unused_sentence
from .contamination import asked_last, asks_any, near_duplicates, prompt_key
from .conversations import fullest_prompts, read_conversations, reading_setting, recognise
from .counts import DataCounts, data_notes, duplicates_note, item_notes, without_examples
from .draw import draw, iter_conversations, prepare
from .formats import FORMATS, check_format
from .markup import chat_markup
from .sources import is_hub_name, read_records, read_rows

__all__ = [
    "FORMATS",
    "BadRow",
    "DataCounts",
    "OnBad",
    "asked_last",
    "asks_any",
    "chat_markup",
    "check_format",
    "data_notes",
    "draw",
    "duplicates_note",
    "fullest_prompts",
    "good_rows",
    "is_hub_name",
    "item_notes",
    "iter_conversations",
    "near_duplicates",
    "prepare",
    "prompt_key",
    "read_conversations",
    "read_records",
    "read_rows",
    "reading_setting",
    "recognise",
    "unused_columns",
    "unused_sentence",
    "without_examples",
]
