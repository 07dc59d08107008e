"""All that is fuzzed."""

import answers
import foreign
import given

TARGETS = (*answers.TARGETS, *given.TARGETS, *foreign.TARGETS)
