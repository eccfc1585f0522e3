"""Windows of a text or of a pair's longer text, cut by hand from plain lists."""


def windows_by_hand(tokenizer, text, pair, max_length, stride):
    """Return the ids of each window as a list."""
    special = len(tokenizer.build_inputs_with_special_tokens([], None if pair is None else []))
    first = tokenizer.encode_batch([text]).row(0)[1:-1].tolist()
    second = None if pair is None else tokenizer.encode_batch([pair]).row(0)[1:-1].tolist()
    long, other = (first, second) if pair is None or len(first) >= len(second) else (second, first)
    room = max_length - special - len(other or [])
    starts = [0]
    while starts[-1] + room < len(long):
        starts.append(starts[-1] + room - stride)
    rows = []
    for start in starts:
        part = long[start : start + room]
        both = (part, second) if long is first else (first, part)
        rows.append(tokenizer.build_inputs_with_special_tokens(*both))
    return rows
