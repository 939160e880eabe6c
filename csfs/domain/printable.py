"""Text from outside, made harmless to a terminal, to a log of one record a line, and to JSON."""


def printable(text: str) -> str:
    """The text with everything escaped that is no ordinary character.

    Names of files, and what others wrote into documents and locks, may hold newlines, escape sequences,
    marks that reverse the direction of writing, and bytes that are not UTF-8.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def shown(name: bytes) -> str:
    """The same for a name or path as the kernel has it."""
    return printable(name.decode(errors="surrogateescape"))


def _escaped(character: str) -> str:
    code = ord(character)
    if character.isprintable():
        return character
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as Python stands it in
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
