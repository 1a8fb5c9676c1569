"""Access to the trials of a study from Python: ``open_study(...).trials("feasible and sram <= 32KB")``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.queries.best import Best, budget_for, find_best
from orchestrator.queries.query import Query, run_query
from orchestrator.storage.address import DEFAULT_STORAGE
from orchestrator.storage.store import Store, Study

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class OpenStudy:
    """A study opened for reading."""

    store: Store
    study: Study

    def trials(self, where: str = "", *, front: tuple[str, ...] = ()) -> pd.DataFrame:
        """The trials that pass a filter (the language of ``query --where``) as a frame, one row each.

        Sizes and counts are nullable integers, accuracies floats, ``feasible`` and ``measured`` nullable booleans,
        ``widths``, ``dense_widths``, ``artifacts`` and ``trajectory`` Python values.

        Raises:
            InputError: the filter does not parse or names an unknown column.
        """
        from orchestrator.storage.frames import trials_frame

        frame = trials_frame(self.store, self.study)
        if not where and not front:
            return frame
        wanted = Query((self.study.name,), where, columns=("number",), front=front)
        numbers = [row["number"] for row in run_query(self.store, wanted).rows]
        return frame[frame["number"].isin(numbers)].reset_index(drop=True)

    def best(
        self,
        device: str | None = None,
        *,
        flash: str | int | None = None,
        sram: str | int | None = None,
        macs: str | int | None = None,
    ) -> Best:
        """The best model for a device, or within bounds such as ``sram="32KB"``.

        Raises:
            InputError: no bounds, an unknown device, a bound that does not parse, or nothing fits.
        """
        budget = budget_for(device, flash=flash, sram=sram, macs=macs)
        return find_best(self.store, budget, studies=(self.study.name,))


def open_study(name: str | None = None, storage: str = DEFAULT_STORAGE) -> OpenStudy:
    """Open a study for reading; without a name the latest one.

    Raises:
        InputError: no such database or study.
    """
    store = Store(storage)
    return OpenStudy(store, store.study(name))
