"""torchstrata: deep learning for people who must trust the comparison.

The public names; nothing else. They are imported when first used, so that ``torchstrata --help`` and reading a result
need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Name -> (module, attribute); an attribute of None is the module itself.
_PUBLIC: dict[str, tuple[str, str | None]] = {
    "BalancedBatchSampler": ("batches.balanced", "BalancedBatchSampler"),
    "BenchmarkResult": ("experiment.result", "BenchmarkResult"),
    "Block": ("network.blocks", "Block"),
    "Callback": ("training.callbacks", "Callback"),
    "Chain": ("network.graph", "Chain"),
    "Choice": ("network.blocks", "Choice"),
    "ConfigError": ("errors", "ConfigError"),
    "DataError": ("errors", "DataError"),
    "EarlyStopping": ("training.state", "EarlyStopping"),
    "Encoder": ("data.encode", "Encoder"),
    "FTTransformer": ("network.fttransformer", "FTTransformer"),
    "Graph": ("network.graph", "Graph"),
    "GridSearchCV": ("experiment.search", "GridSearchCV"),
    "GroupBatchSampler": ("batches.grouped", "GroupBatchSampler"),
    "Heads": ("training.several", "Heads"),
    "Input": ("network.nodes", "Input"),
    "LengthBucketBatchSampler": ("batches.grouped", "LengthBucketBatchSampler"),
    "Linear": ("network.tabular", "Linear"),
    "MLP": ("network.tabular", "MLP"),
    "NonFiniteError": ("errors", "NonFiniteError"),
    "ProportionalBatchSampler": ("batches.samplers", "ProportionalBatchSampler"),
    "RandomBatchSampler": ("batches.samplers", "RandomBatchSampler"),
    "RandomizedSearchCV": ("experiment.search", "RandomizedSearchCV"),
    "RealMLP": ("network.realmlp", "RealMLP"),
    "ResNet": ("network.resnet", "ResNet"),
    "Runtime": ("training.runtime", "Runtime"),
    "StratifiedBatchSampler": ("batches.samplers", "StratifiedBatchSampler"),
    "TabM": ("network.tabm", "TabM"),
    "Task": ("data.task", "Task"),
    "TorchClassifier": ("learner.classifier", "TorchClassifier"),
    "TorchRegressor": ("learner.regressor", "TorchRegressor"),
    "benchmark": ("experiment.benchmark", "benchmark"),
    "correct_prior": ("learner.calibration", "correct_prior"),
    "callbacks": ("training.callbacks", None),
    "grid": ("experiment.plan", "grid"),
    "head_scorer": ("learner.one_head", "head_scorer"),
    "imbalanced_subsets": ("data.imbalance", "imbalanced_subsets"),
    "layers": ("network.layers", None),
    "load": ("learner.saving", "load"),
    "load_result": ("experiment.result", "load_result"),
    "load_task": ("data.zoo", "load_task"),
    "losses": ("training.losses", None),
    "optim": ("training.optim", None),
    "plots": ("plots", None),
    "recipes": ("learner.recipes", None),
    "resample": ("experiment.benchmark", "resample"),
    "schedules": ("training.schedules", None),
    "splitters": ("experiment.splitters", None),
    "smoke": ("experiment.smoke", "smoke"),
    "torch_sampler": ("batches.torch_sampler", "torch_sampler"),
}
__all__ = sorted(_PUBLIC)

if TYPE_CHECKING:
    from torchstrata import plots as plots
    from torchstrata.batches.balanced import BalancedBatchSampler as BalancedBatchSampler
    from torchstrata.batches.grouped import GroupBatchSampler as GroupBatchSampler
    from torchstrata.batches.grouped import LengthBucketBatchSampler as LengthBucketBatchSampler
    from torchstrata.batches.samplers import ProportionalBatchSampler as ProportionalBatchSampler
    from torchstrata.batches.samplers import RandomBatchSampler as RandomBatchSampler
    from torchstrata.batches.samplers import StratifiedBatchSampler as StratifiedBatchSampler
    from torchstrata.batches.torch_sampler import torch_sampler as torch_sampler
    from torchstrata.data.encode import Encoder as Encoder
    from torchstrata.data.imbalance import imbalanced_subsets as imbalanced_subsets
    from torchstrata.data.task import Task as Task
    from torchstrata.data.zoo import load_task as load_task
    from torchstrata.errors import ConfigError as ConfigError
    from torchstrata.errors import DataError as DataError
    from torchstrata.errors import NonFiniteError as NonFiniteError
    from torchstrata.experiment import splitters as splitters
    from torchstrata.experiment.benchmark import benchmark as benchmark
    from torchstrata.experiment.benchmark import resample as resample
    from torchstrata.experiment.plan import grid as grid
    from torchstrata.experiment.result import BenchmarkResult as BenchmarkResult
    from torchstrata.experiment.result import load_result as load_result
    from torchstrata.experiment.search import GridSearchCV as GridSearchCV
    from torchstrata.experiment.search import RandomizedSearchCV as RandomizedSearchCV
    from torchstrata.experiment.smoke import smoke as smoke
    from torchstrata.learner import recipes as recipes
    from torchstrata.learner.calibration import correct_prior as correct_prior
    from torchstrata.learner.classifier import TorchClassifier as TorchClassifier
    from torchstrata.learner.one_head import head_scorer as head_scorer
    from torchstrata.learner.regressor import TorchRegressor as TorchRegressor
    from torchstrata.learner.saving import load as load
    from torchstrata.network import layers as layers
    from torchstrata.network.blocks import Block as Block
    from torchstrata.network.blocks import Choice as Choice
    from torchstrata.network.fttransformer import FTTransformer as FTTransformer
    from torchstrata.network.graph import Chain as Chain
    from torchstrata.network.graph import Graph as Graph
    from torchstrata.network.nodes import Input as Input
    from torchstrata.network.realmlp import RealMLP as RealMLP
    from torchstrata.network.resnet import ResNet as ResNet
    from torchstrata.network.tabm import TabM as TabM
    from torchstrata.network.tabular import MLP as MLP
    from torchstrata.network.tabular import Linear as Linear
    from torchstrata.training import callbacks as callbacks
    from torchstrata.training import losses as losses
    from torchstrata.training import optim as optim
    from torchstrata.training import schedules as schedules
    from torchstrata.training.callbacks import Callback as Callback
    from torchstrata.training.runtime import Runtime as Runtime
    from torchstrata.training.several import Heads as Heads
    from torchstrata.training.state import EarlyStopping as EarlyStopping


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        from torchstrata.errors import did_you_mean

        raise AttributeError(f"module 'torchstrata' has no attribute {name!r}. {did_you_mean(name, __all__)}")
    module, attribute = _PUBLIC[name]
    loaded = importlib.import_module(f"torchstrata.{module}")
    value = loaded if attribute is None else getattr(loaded, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
