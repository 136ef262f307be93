"""A loopback address for each process, so that who takes mail can say which worker brought it."""

#: What a connector names as its source address where each worker is to come from one of its own.
ANY = "127.0.0.1"


def address_of(pid: int) -> str:
    return f"127.{64 + (pid >> 16)}.{pid >> 8 & 255}.{pid & 255}"


def process_at(address: str) -> int:
    """The pid; 0 for an address that is nobody's own."""
    high, middle, low = map(int, address.split(".")[1:])
    return (high - 64) << 16 | middle << 8 | low if high >= 64 else 0
