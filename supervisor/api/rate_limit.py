"""How often somebody may do something: token buckets. Pure: the time goes in."""

from ipaddress import IPv6Address, ip_address
from typing import Final

from msgspec import Struct

MAX_BUCKETS: Final = 10_000


class Rate(Struct, frozen=True):
    """So many per second in the long run, and `burst` at once."""

    per_second: float
    burst: float


class Refusal(Struct, frozen=True):
    """Too much. `first`: nothing was refused since something was allowed."""

    retry_after_s: float
    first: bool


class Bucket(Struct):
    """What is left of one's burst, as of a time (seconds of any clock that only goes forward)."""

    left: float
    at_s: float
    refused: bool = False


class RateLimit:
    """Buckets by name, each full at first. Those that are full again are forgotten."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._buckets: dict[str, Bucket] = {}

    def look(self, name: str, now_s: float) -> Refusal | None:
        """Whether one more would be too much; takes nothing."""
        bucket = self._filled(name, now_s)
        if bucket.left >= 1:
            return None
        first, bucket.refused = not bucket.refused, True
        return Refusal((1 - bucket.left) / self._rate.per_second, first)

    def take(self, name: str, now_s: float) -> Refusal | None:
        """Do one, unless that is too much."""
        refusal = self.look(name, now_s)
        if refusal is None:
            bucket = self._buckets[name]
            bucket.left -= 1
            bucket.refused = False
        return refusal

    def _filled(self, name: str, now_s: float) -> Bucket:
        """A name's bucket as of now."""
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= MAX_BUCKETS:
                self._forget(now_s)
            bucket = self._buckets[name] = Bucket(self._rate.burst, now_s)
        gained = (now_s - bucket.at_s) * self._rate.per_second
        bucket.left = min(self._rate.burst, bucket.left + gained)
        bucket.at_s = now_s
        return bucket

    def _forget(self, now_s: float) -> None:
        """Make room: drop the full ones, or else the older half."""
        full_s = self._rate.burst / self._rate.per_second
        kept = {name: each for name, each in self._buckets.items() if now_s - each.at_s < full_s}
        if len(kept) >= MAX_BUCKETS:
            newest = sorted(kept, key=lambda name: kept[name].at_s)[MAX_BUCKETS // 2 :]
            kept = {name: kept[name] for name in newest}
        self._buckets = kept


def network_of(address: str) -> str:
    """Whose address it is: of IPv6 the /64, which a single host has to itself."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return parsed.ipv4_mapped.compressed if parsed.ipv4_mapped else parsed.exploded[:19]
    return parsed.compressed
