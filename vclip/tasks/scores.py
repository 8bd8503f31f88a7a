"""A task's score: named numbers of n examples, beside the same numbers of an answer that knows nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, repr=False, kw_only=True)
class Score:
    """Base of a task's score; its numbers are the further fields that are annotated float.

    `chance`: what random answers score on average, as a score or, where there is but one number, as that.
    """

    n: int
    chance: "Score | float | None" = None

    def values(self) -> dict[str, float]:
        """The numbers by name, without `n` and `chance`."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.type is float}

    def beside(self) -> dict[str, dict[str, float]]:
        """What answers that know nothing score, by name of the answer."""
        if isinstance(self.chance, Score):
            return {"chance": self.chance.values()}
        return {} if self.chance is None else {"chance": dict.fromkeys(self.values(), self.chance)}

    def report(self, floors: Mapping[str, Mapping[str, float]] | None = None) -> dict[str, Any]:
        """`scores`, `floors` (those `beside` and more by name) and `n`, as the `examine` of a task returns them."""
        return {"scores": self.values(), "floors": {**self.beside(), **(floors or {})}, "n": self.n}

    def __repr__(self) -> str:
        shown = []
        for name, value in self.values().items():
            floors = [f"{floor} {numbers[name]:.4g}" for floor, numbers in self.beside().items() if name in numbers]
            shown.append(f"{name} {value:.4g}" + (f" ({', '.join(floors)})" if floors else ""))
        return f"{type(self).__name__}({', '.join(shown)}, n {self.n})"
