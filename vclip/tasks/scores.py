"""A task's score: named numbers of n examples, beside the same numbers of an answer that knows nothing."""

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, repr=False, kw_only=True)
class Score:
    """Base of a task's score; its numbers are the further fields. `chance`: what random answers score on average."""

    n: int
    chance: "Score | None" = None

    def values(self) -> dict[str, float]:
        """The numbers by name, without `n` and `chance`."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("n", "chance")}

    def report(self, **floors: "Score") -> dict[str, Any]:
        """`scores`, `floors` (chance, and others by name) and `n`, as the `examine` of a task returns them."""
        beside = ({"chance": self.chance} if self.chance else {}) | floors
        return {"scores": self.values(), "floors": {name: s.values() for name, s in beside.items()}, "n": self.n}

    def __repr__(self) -> str:
        floors = self.chance.values() if self.chance else {}
        shown = [
            f"{name} {value:.4g}" + (f" (chance {floors[name]:.4g})" if name in floors else "")
            for name, value in self.values().items()
        ]
        return f"{type(self).__name__}({', '.join(shown)}, n {self.n})"
