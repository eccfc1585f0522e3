"""Dialogues small enough to be learnt: the system repeats what the user spoke of."""

WORDS = [
    "haus vogel fluss",
    "город дети птица",
    "red house river",
    "πουλί πόλη παιδιά",
    "under the city",
    "alte Haus morgen",
    "bird sings today",
    "дом река идёт",
]


def dialogue(i, n_turns=4):
    """The system repeats what the user spoke of."""
    word = WORDS[i % len(WORDS)]
    turns = []
    for turn in range(n_turns):
        if turn % 2:
            turns.append({"speaker": "system", "text": word})
        else:
            turns.append({"speaker": "user", "text": f"{word} und {turn}"})
    return turns


DIALOGUES = [dialogue(i) for i in range(8)]
CONTEXTS = [turns[:3] for turns in DIALOGUES]
