"""All tables by command, in the order of the index page."""

from benchmarks.ablation import Ablation
from benchmarks.app import App
from benchmarks.calibration import Calibration
from benchmarks.development import Development
from benchmarks.drift import Drift
from benchmarks.fuzz import Fuzz
from benchmarks.gradient import Gradient
from benchmarks.kills import Kills
from benchmarks.long import Long
from benchmarks.methods import DEFAULTS, Methods
from benchmarks.own_prior import OwnPrior
from benchmarks.paired import Paired
from benchmarks.speed import Speed
from benchmarks.strengths import Strengths
from benchmarks.tradeoff import Tradeoff

Table = (
    Methods
    | Paired
    | Tradeoff
    | OwnPrior
    | Ablation
    | Strengths
    | Development
    | Calibration
    | Gradient
    | Fuzz
    | Kills
    | Long
    | App
    | Drift
    | Speed
)
"""A table of the documents. Its fields are the options of its command; it also has

- `command`, the argument of `python -m benchmarks`,
- `name` of its files, without suffix,
- `shows`, a sentence for the help and the index page,
- `run`, which measures what is missing and writes the table with its record.
"""

TABLES: tuple[Table, ...] = (
    *DEFAULTS.values(),
    Paired(),
    Tradeoff(),
    OwnPrior(),
    Ablation(),
    Strengths(),
    Development(),
    Calibration(),
    Gradient(),
    Fuzz(),
    Kills(),
    Long(),
    App(),
    Drift(),
    Speed(),
)
"""Each table with the default options of its command."""
