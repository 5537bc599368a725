"""Scaling laws: how the loss on real images falls with the number of training images, and how sure that is.

>>> law = fit_law([256, 512, 1024, 2048], [1.10, 0.97, 0.85, 0.75])
>>> round(law.scaling_ability, 3)
0.185
"""

from syn_ray.fit.compare import Comparison, compare, compare_forecast
from syn_ray.fit.forms import FORMS
from syn_ray.fit.groups import ClassGroups, Cuts, group_classes
from syn_ray.fit.intervals import BootstrappedLaw, bootstrap_law
from syn_ray.fit.law import Law, fit_law
from syn_ray.fit.selection import FormChoice, Holdout, choose_form, holdout_largest

__all__ = [
    "FORMS",
    "BootstrappedLaw",
    "ClassGroups",
    "Comparison",
    "Cuts",
    "FormChoice",
    "Holdout",
    "Law",
    "bootstrap_law",
    "choose_form",
    "compare",
    "compare_forecast",
    "fit_law",
    "group_classes",
    "holdout_largest",
]
