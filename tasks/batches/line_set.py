"""Sets of line numbers, read from bitmaps in Redis."""


class LineSet:
    """The lines whose bit is set in any of `maps`. As in Redis, bit 0 is the highest bit of byte 0."""

    def __init__(self, *maps: bytes) -> None:
        self.maps = maps

    def __contains__(self, line: object) -> bool:
        if not isinstance(line, int):
            return False
        byte, bit = line >> 3, 0x80 >> (line & 7)
        return any(byte < len(bits) and bits[byte] & bit for bits in self.maps)
