"""A whole study: plan, run on Ray, tables, report. The only place that knows more than one stage.

>>> from syn_ray.study import run_study
>>> study = run_study("quickstart")            # doctest: +SKIP
>>> study.results, study.fits, study.result_grid.get_dataframe()   # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

__all__ = ["StudyResult", "load_results", "run_study"]


def __getattr__(name: str) -> Any:
    """Loads on first use: whoever only reads tables waits for neither Ray nor torch."""
    if name == "load_results":
        from syn_ray.study.results import load_results

        return load_results
    if name in __all__:
        from syn_ray.study import runner

        return getattr(runner, name)
    raise AttributeError(f"module 'syn_ray.study' has no attribute '{name}'")
