# The one door: what users import. Modules behind it may move between releases.

# A run, from a recipe to its summary.
# An algorithm of your own.
from .algorithms.algorithm import REFERENCE as REFERENCE
from .algorithms.algorithm import About as About
from .algorithms.algorithm import Algorithm as Algorithm
from .algorithms.algorithm import Column as Column
from .algorithms.algorithm import DataFacts as DataFacts
from .algorithms.algorithm import Draw as Draw
from .algorithms.algorithm import PolicyRef as PolicyRef
from .algorithms.algorithm import Reuse as Reuse
from .algorithms.algorithm import Step as Step
from .algorithms.pairing import BestWorst as BestWorst
from .algorithms.pairing import IndependentPairs as IndependentPairs
from .algorithms.pairing import Knockout as Knockout
from .games import dynamics as dynamics

# Oracles.
from .models.chat import turns as turns

# Losses on tensors.
from .objectives.pairs import Batch as Batch
from .objectives.pairs import Loss as Loss
from .objectives.pairs import PairLogistic as PairLogistic
from .objectives.pairs import PairSquare as PairSquare
from .objectives.pairs import margins as margins
from .objectives.pairs import relative_logps as relative_logps
from .oracles.build import build_oracle as build_oracle
from .oracles.guard import Guard as Guard
from .oracles.oracle import Comparison as Comparison
from .recipe.reading import load_recipe as load_recipe
from .recipe.reading import parse_recipe as parse_recipe
from .recipe.recipe import Recipe as Recipe

# The five stages, one by one.
from .rounds.anchor import anchor_logps as anchor_logps
from .rounds.fit import fit_step as fit_step
from .rounds.judge import judge_examples as judge_examples
from .rounds.pair import make_pairs as make_pairs
from .rounds.policies import Policies as Policies
from .rounds.run import run as run
from .rounds.sample import sample_draw as sample_draw
from .rounds.store import Store as Store
from .runtime.errors import EngineError as EngineError
from .runtime.errors import OracleError as OracleError
from .runtime.files import read_table as read_table
from .runtime.progress import Progress as Progress
from .training.metrics import Tripwire as Tripwire

__version__: str
