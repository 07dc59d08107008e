"""What a model's chat template and tokenizer do: `prompts.Renderer` is built from these parts.

`chat_template` applies the template with one date, `tokens` encodes without additions, `answer_turn` finds what
surrounds an answer and ends it, and `thinking` whether the template makes the model think.
"""
