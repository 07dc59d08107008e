"""Signs that a text was written as a rewrite: talk about the reference or the prompt, headings of the rewriting
template, further turns of a dialogue. In training the prompt has no reference, so the model would learn to invent one.

To add a phrase, add a line to one of the tables below. Quantifiers are bounded, so every search takes linear time.
"""

from __future__ import annotations

import re
from collections.abc import Set

REFERENCE = "talks about the reference"
PROMPT = "talks about the prompt"
HEADING = "heading of the rewriting template"
SENTENCE = "sentence of the rewriting template"

# "The reference" can be any reference (a pointer, a book, a letter), so a verb of saying or an end has to follow. "The
# guide" can be a travel guide or a user guide, so it has to be "provided", or an answer has to be "based on" it.
_SAYS = (
    r"(?:says|states|said|mentions|gives|notes|provides|suggests|indicates|explains|claims|tells"
    r"|also says|(?:that )?you (?:provided|gave|shared))\b"
)
_ENDS = r"(?= ?(?:[,.;:!?)\n]|\Z)| (?:provided|given|above|I|we|you|it|there|this|here|is|are|as)\b)"

# (reason, words, patterns). The patterns are searched only if one of the words occurs, which is rare.
_PHRASES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    (  # English. "Reference answer" is from the paper's list (eval/gen_distilled_data.py of its public code).
        REFERENCE,
        (
            "reference",
            "guide",
            "answer",
            "response",
            "solution",
            "original",
            "own words",
            "rewritten",
            "reworded",
            "phrased",
        ),
        (
            r"\breference (?:answer|response|solution|text|output)\b",
            r"\b(?:according to|based on|per|following|in line with|consistent with|guided by|from"
            r"|copying|match(?:es|ing)?|refer(?:ring)? to|(?:answer|facts|details|information) in"
            r"|(?:stated|mentioned|given|shown|described|noted|found|provided|suggested) (?:in|by)) "
            rf"(?:the|this|your|my) (?:(?:given|provided|above|original) )?reference{_ENDS}",
            rf"\bbased on (?:the|this|your|my) guide{_ENDS}|\A\W{{0,4}}the guide (?:says|states|mentions|notes) that\b",
            r"\b(?:according to|based on|per|following|us(?:e|ed|ing)|with|in|by|from) (?:the|this|your|my) "
            rf"(?:(?:given|provided|above) (?:reference|guide){_ENDS}"
            r"|(?:reference|guide) (?:given|provided|above)\b(?! (?:by|in)\b))",
            r"\bI(?:'ve| have)? used (?:the|this|your) reference\b",
            rf"\bthe (?:given |provided )?reference,? {_SAYS}",
            r"\b(?:your|my|our|its) own (?:answer|solution|response)\b",
            # "In my own words" alone may be part of the task, so a word such as "answer" has to precede it.
            r"\b(?:answer|response|solution|rewritten|rephrased|reference)\b[^.\n]{0,40}\bin my own words\b",
            r"(?<!your )\b(?:provided|given|original) (?:answer|response|solution)\b"
            r"|\bthe (?:answer|response|solution) provided\b",
            r"\b(?:rewritten|rephrased|reworded|paraphrased) (?:answer|response|solution)\b",
            r"\b(?:rewritten|rephrased|reworded|paraphrased|my) version of (?:the|this|your) (?:answer|response)\b",
            r"\bin my own words\W{0,3}:|\A\W{0,4}(?:rewritten|rephrased|reworded|paraphrased)\W{0,3}:",
            rf"\bthe (?:sample|model|example) (?:answer|response|solution),? {_SAYS}",
            r"\bI(?:'ve| have)? (?:kept|preserved|retained) [^.\n]{3,60} (?:of|from|in) the original\b",
        ),
    ),
    (  # The first two lines are also from the paper's list, but skip letters that "look forward to your response".
        PROMPT,
        ("response", "turn", "answer", "instruction", "prompt", "rephrase", "reword", "rewrote", "paraphras"),
        (
            r"\bnow it's your turn\b|^your turn\b",
            r"(?:^|\bhere(?:'s| is) )\W{0,4}(?:your|my) (?:response|answer)\b(?= ?[:\n*]| (?:to|based)\b)"
            r"|\bmy response (?:is|to|would|will)\b|\bour response (?:is|to)\b",
            r"\bplease (?:provide|write|give) your (?:answer|response)\b(?! (?:by|before|until|within|no later)\b)",
            r"\byour (?:answer|response|solution) (?:is|was|looks|seems|sounds) (?:a bit |very |mostly |quite )?"
            r"(?:too|good|great|correct|incorrect|wrong|right|clear|almost|not|long|short)\b"
            r"(?! (?:if|when|unless|only)\b)",
            r"\b(?:I will|I'll|I have|I've|let me) (?:(?:rephrase|reword|paraphrase)d? "
            r"(?:it|this|that|(?:the|your) (?:answer|response|solution))"
            r"|(?:rewrite|rewritten) (?:the|your) (?:answer|response))\b"
            r"|\bI (?:rephrased|reworded|paraphrased|rewrote) (?:the|your) (?:answer|response|solution)\b",
            r"\b(?:based on|according to|as per|suggested by|given|in) (?:the|this) (?:given |provided )?"
            r"(?:instruction|prompt)\b",
            r"\bthe (?:instruction|prompt) (?:provide|ask|state|say|give|is asking)",
        ),
    ),
    (  # German
        REFERENCE,
        ("referenz", "muster", "vorlage", "antwort", "lösung", "worten"),
        (
            r"\bReferenz-?(?:antwort|lösung|text)\w{0,2}\b|\bMuster(?:antwort|lösung)\w{0,2}\b",
            r"\b(?:laut|gemäß|basierend auf|anhand|entsprechend) (?:der|dieser|Ihrer|deiner|meiner) "
            r"(?:(?:gegebenen|obigen|angegebenen) )?(?:Referenz|Vorlage)\b",
            r"\bin der (?:Referenz|Vorlage) (?:angegeben|erwähnt|beschrieben|genannt)\b"
            r"|\bdie Referenz (?:sagt|besagt|nennt|gibt|lautet|erwähnt)\b",
            r"\b(?:meine|Ihre|deine) eigene (?:Antwort|Lösung)\b|\bin (?:meinen )?eigenen Worten\b",
            r"\b(?:vorgegebene|gegebene|bereitgestellte|ursprüngliche)n? (?:Antwort|Lösung)\b",
            r"\b(?:Ihre|deine) Antwort ist (?:zu|richtig|falsch|gut)\b",
        ),
    ),
    (  # French
        REFERENCE,
        ("référence", "réponse", "mots"),
        (
            r"\bréponses? de référence\b|\b(?:selon|d'après|conformément à|sur la base de) (?:la|cette) référence\b",
            r"\b(?:indiqué|mentionné|précisé) dans la référence\b",
            r"\bla référence (?:indique|dit|précise|mentionne|donne)\b",
            r"\bma propre (?:réponse|solution)\b|\bavec mes propres mots\b",
            r"\b(?:la|cette) réponse (?:fournie|donnée|originale|d'origine)\b|\bvotre réponse est trop\b",
        ),
    ),
    (  # Spanish
        REFERENCE,
        ("referencia", "respuesta", "palabras"),
        (
            r"\brespuestas? de referencia\b",
            r"\b(?:según|de acuerdo con|basándo(?:me|nos) en|con base en) (?:la|esta) referencia\b",
            r"\b(?:indica|menciona) en la referencia\b|\bla referencia (?:dice|indica|menciona|señala)\b",
            r"\bmi propia (?:respuesta|solución)\b|\bcon mis propias palabras\b",
            r"\b(?:la|esta) respuesta (?:proporcionada|dada|original)\b|\b(?:tu|su) respuesta es (?:demasiado|muy)\b",
        ),
    ),
    (  # Italian
        REFERENCE,
        ("riferimento", "risposta", "parole"),
        (
            r"\brispost[ae] di riferimento\b",
            r"\b(?:secondo|in base al|basandomi sul|come indicato nel) (?:il )?(?:testo di )?riferimento\b",
            r"\bil riferimento (?:dice|indica|riporta|afferma)\b",
            r"\bmia propria (?:risposta|soluzione)\b|\bcon (?:parole mie|le mie parole)\b",
            r"\b(?:la|questa) risposta (?:fornita|data|originale)\b|\bla (?:tua|sua) risposta è troppo\b",
        ),
    ),
    (  # Portuguese
        REFERENCE,
        ("referência", "resposta", "palavras"),
        (
            r"\brespostas? de referência\b",
            r"\b(?:segundo|de acordo com|conforme|com base n)\s?a referência\b",
            r"\ba referência (?:diz|indica|menciona|afirma)\b",
            r"\bminha própria (?:resposta|solução)\b|\bcom (?:as )?minhas próprias palavras\b",
            r"\ba resposta (?:fornecida|dada|original)\b|\bsua resposta é muito\b",
        ),
    ),
    (  # Dutch
        REFERENCE,
        ("referentie", "antwoord", "woorden"),
        (
            r"\breferentie-?(?:antwoord|oplossing|tekst)\w{0,2}\b",
            r"\b(?:volgens|op basis van|op grond van) (?:de|deze) referentie\b",
            r"\bde referentie (?:zegt|geeft|vermeldt|stelt)\b",
            r"\b(?:mijn|je|uw) eigen (?:antwoord|oplossing)\b|\bin mijn eigen woorden\b",
            r"\bhet (?:gegeven|verstrekte|oorspronkelijke) antwoord\b|\b(?:je|jouw|uw) antwoord is te\b",
        ),
    ),
    (  # Polish
        REFERENCE,
        ("referenc", "wzorcow", "odpowied", "słowami"),
        (
            r"\bodpowied\w{1,4} (?:referencyjn|wzorcow)\w{1,4}\b|\b(?:referencyjn|wzorcow)\w{1,4} odpowied\w{1,4}\b",
            r"\b(?:zgodnie z|według|na podstawie) (?:tej |podanej )?referencj\w{1,3}\b",
            r"\bmoj\w{1,2} własn\w{1,3} odpowied\w{1,4}\b|\bmoimi (?:własnymi )?słowami\b",
            r"\b(?:podan|oryginaln)\w{1,3} odpowied[źz]\w{0,3}\b|\bTwoja odpowiedź jest zbyt\b",
        ),
    ),
    (  # Russian
        REFERENCE,
        ("эталонн", "образцов", "референс", "справочн", "ответ", "словами"),
        (
            r"\b(?:эталонн|образцов)\w{1,3} (?:ответ|решени)\w{0,3}\b",
            r"\b(?:согласно|на основе|исходя из|судя по) (?:эталон|референс|справочн\w{1,3} ответ)\w{0,3}\b",
            r"\bмо\w{1,3} собственн\w{1,3} (?:ответ|решени)\w{0,3}\b|\bмоими (?:собственными )?словами\b",
            r"\b(?:предоставленн|приведённ|приведенн|исходн)\w{1,3} ответ\w{0,3}\b|\bваш ответ слишком\b",
        ),
    ),
    (  # Chinese
        REFERENCE,
        ("参考", "參考", "答案", "回答", "自己的话"),
        (
            r"[参參]考(?:答案|回答|回复|解答|答复)|[参參]考(?:内容|資料|资料)?(?:中)?(?:指出|提到|所说|所述)",
            r"(?:根据|依据|按照|参照|基于)(?:上述|上面的|给定的|提供的|所给的|你的|您的)?(?:参考(?!文献|书|系|价|资)|答案|指南[,，])",
            r"我自己的(?:回答|答案|话)|(?:提供|给定|给出|原始|所给|原来)的(?:答案|回答|回复)|[你您]的(?:回答|答案)(?:太|过于)",
        ),
    ),
    (  # Japanese
        REFERENCE,
        ("参考", "参照", "模範", "回答", "解答", "答え", "言葉"),
        (
            r"(?:参考|参照|模範)(?:回答|解答|答案)|参考(?:によると|によれば|に基づ)",
            r"私(?:自身|なり|独自)の(?:回答|答え|解答|言葉)|(?:提供|提示|与え|示)(?:さ|ら)れた(?:回答|答え|解答)"
            r"|あなたの(?:回答|答え)は(?:長|正|間違)",
        ),
    ),
    (  # Korean
        REFERENCE,
        ("참고", "참조", "모범", "답변", "답안"),
        (
            r"(?:참고|참조|모범) ?(?:답변|답안|정답)|(?:참고|참조)(?:에 따르면|에 의하면|를 바탕으로|를 기반으로)",
            r"(?:제|저|나|내|저만의|나만의) ?자신의 답변|(?:저|나)만의 답변|(?:제공된|주어진|원래의?) ?(?:답변|답안)"
            r"|(?:당신의|귀하의) 답변[은이] 너무",
        ),
    ),
    (  # Further languages: the translation of "reference answer" alone
        REFERENCE,
        ("referens", "reference", "referenč", "referans", "tham khảo", "еталонн", "المرجعية", "संदर्भ"),
        (
            r"\breferenssvar\w{0,3}\b|\breferencesvar\w{0,3}\b|\breferenční odpově\w{1,3}\b",
            r"\breferans (?:ceva[pb]|yanıt)\w{0,5}\b",
            r"câu trả lời tham khảo|\bеталонн\w{1,3} відповід\w{1,3}\b|الإجابة المرجعية|संदर्भ उत्तर",
        ),
    ),
)
_COMPILED = tuple(
    (reason, cues, tuple(re.compile(pattern, re.IGNORECASE | re.MULTILINE) for pattern in patterns))
    for reason, cues, patterns in _PHRASES
)

_LABELS = ("instruction", "response", "answer", "reference", "reference answer", "your answer")
_HEADING = re.compile(r"^[ \t]{0,8}(?P<mark>#{1,6}|\*\*)[ \t]{0,3}(?P<label>[^\n:*#]{1,60})(?P<colon>:?)", re.MULTILINE)
_LABEL = re.compile(
    r"^[ \t]{0,8}(?P<label>(?:your|reference) (?:answer|response))[ \t]{0,3}:", re.MULTILINE | re.IGNORECASE
)
_SENTENCE = 5  # words: shorter sentences of a template may well be in an answer
_SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+|\n|\{\w+\}")
_TEMPLATE_LINE = re.compile(r"^[ \t]*(?P<mark>#{1,6}|\*\*)?[ \t]*(?P<label>[^\n:*#{}]{1,60}):", re.MULTILINE)

_USER = (
    r"User|Human|Benutzer|Nutzer|Utilisateur|Usuario|Utente|Usuário|Gebruiker|Użytkownik|Пользователь"
    r"|用户|ユーザー|사용자"
)
_ASSISTANT = (
    r"Assistant|AI|Chatbot|Bot|Assistent|Assistante|Asistente|Assistente|Asystent|Ассистент|Помощник"
    r"|助手|助理|アシスタント|어시스턴트|도우미"
)
_TURN = re.compile(
    rf"^[ \t>#*\[]{{0,8}}(?:(?P<user>{_USER})|(?P<assistant>{_ASSISTANT}))[\]*]{{0,3}}[ \t]?[:：](?P<says>[^\n]*+)",
    re.MULTILINE | re.IGNORECASE,
)
_SHORT_NAMES = {"ai", "bot", "chatbot"}  # an answer may begin with them: "AI: artificial intelligence"
_ASKED = re.compile(
    r"^[ \t>#*]{0,8}(?:Q|Question|Frage|Pregunta|Domanda|Pergunta|Vraag|Pytanie|Вопрос|问|問|質問|질문)"
    r"\d{0,2}[ \t*]{0,3}[:：]"
    r"[^\n]*[?？][ \t*]{0,4}\n{1,2}"
    r"[ \t>#*]{0,8}(?:A|Answer|Antwort|Réponse|Respuesta|Risposta|Resposta|Antwoord|Odpowiedź|Ответ|答|回答|답변?)"
    r"\d{0,2}[ \t*]{0,3}[:：]",
    re.MULTILINE | re.IGNORECASE,
)


def leak(text: str, reference: str, instruction: str, headings: Set[str]) -> str | None:
    """The reason why a text does not stand alone as an answer, or None. A phrase or heading that also occurs in the
    reference or the instruction is not counted, because it is the subject of the text. `headings` are the headings and
    sentences of the rewriting template, from `template_headings`."""
    text, source = _straight(text), _straight(f"{reference}\n{instruction}")
    if _labels(text, headings) - _labels(source, headings):
        return HEADING
    words = text.casefold()
    if any(mark.count(" ") >= _SENTENCE - 1 and mark in words and mark not in source.casefold() for mark in headings):
        return SENTENCE
    for reason, cues, patterns in _COMPILED:
        if any(cue in words for cue in cues) and any(is_new(pattern, text, source) for pattern in patterns):
            return reason
    return None


def is_new(pattern: re.Pattern[str], text: str, source: str) -> bool:
    """Whether `pattern` finds something in the text that it does not find in the source."""
    found = {match[0].casefold() for match in pattern.finditer(text)}
    return bool(found) and not found <= {match[0].casefold() for match in pattern.finditer(source)}


def template_headings(template: str) -> frozenset[str]:
    """The headings of a rewriting template: lines such as `### Your answer:`, `**Draft:**` or `Reference answer:`. A
    line without a mark counts only if it has two words or more, because many answers begin with `Answer:`. Also its
    sentences of five words or more, without the full stop."""
    lines = _TEMPLATE_LINE.finditer(template)
    headings = {_plain(line["label"]) for line in lines if line["mark"] or " " in line["label"].strip()}
    sentences = {_straight(text).strip(" .!?:").casefold() for text in _SENTENCE_ENDS.split(template)}
    return frozenset(headings | {text for text in sentences if text.count(" ") >= _SENTENCE - 1})


def _labels(text: str, headings: Set[str]) -> set[str]:
    """The headings in a text that come from a rewriting template: from one of ours, or from the template in use."""
    known = {
        _plain(line["label"])
        for line in _HEADING.finditer(text)
        if _plain(line["label"]) in headings
        or (line["mark"] != "**" and line["colon"] and _plain(line["label"]) in _LABELS)
    }
    unmarked = {_plain(line["label"]) for line in _LABEL.finditer(text)}
    return known | unmarked | {label for label in headings if " " in label and f"\n{label}:" in f"\n{text.casefold()}"}


def goes_on(text: str) -> bool:
    """Whether a text contains turns of a dialogue: lines of both sides; a label of the assistant at the start; a later
    user turn with a question; or a question line followed by an answer line ("Q: ...", "A: ...")."""
    turns = list(_TURN.finditer(text))
    if {bool(turn["user"]) for turn in turns} == {True, False}:
        return True
    return _ASKED.search(text) is not None or any(
        (turn["user"] and turn.start() > 0 and turn["says"].rstrip().endswith(("?", "？")))
        or (turn["assistant"] and not text[: turn.start()].strip() and turn["assistant"].casefold() not in _SHORT_NAMES)
        for turn in turns
    )


def _plain(label: str) -> str:
    return label.strip(" \t*_").casefold()


def _straight(text: str) -> str:
    return text.replace("’", "'")
