"""Which parameters train, by name and epoch."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from torchstrata.errors import ConfigError, did_you_mean


class Freezer:
    """Make parameters trainable by pattern, from given epochs on.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    trainable : None, str, list of str, or dict of int to those
        Patterns as of the shell over parameter names. A dict says after how many complete epochs they join:
        ``{0: "head.*", 3: "body.layer4.*", 6: "*"}``. None trains what requires a gradient, which is everything unless
        you said otherwise.

    Raises
    ------
    ConfigError
        If a pattern matches no parameter, an epoch is no int >= 0, or nothing trains from the start.

    Notes
    -----
    A layer or block all of whose parameters are frozen stays in evaluation mode: BatchNorm would go on averaging, and
    dropout would blur what is fixed.
    """

    def __init__(self, module: nn.Module, trainable: Any):
        self.module = module
        self.plan = _plan(trainable)
        if self.plan is None:
            if not any(parameter.requires_grad for parameter in module.parameters()):
                raise ConfigError("the network has no trainable parameters")
            return
        names = [name for name, _ in module.named_parameters()]
        for patterns in self.plan.values():
            matching(names, patterns, where="trainable")
        if not self.plan.get(0):
            raise ConfigError(
                f"trainable says what joins after {sorted(self.plan)} epochs and nothing trains from the start: "
                "add an entry for 0"
            )

    def begin_epoch(self, done: int) -> None:
        """Set what trains, and hold the running statistics of frozen layers still.

        Parameters
        ----------
        done : int
            Complete epochs.
        """
        self.module.train()
        if self.plan is not None:
            active = [pattern for epoch, patterns in self.plan.items() if epoch <= done for pattern in patterns]
            for name, parameter in self.module.named_parameters():
                parameter.requires_grad_(any(fnmatch.fnmatchcase(name, pattern) for pattern in active))
        if all(parameter.requires_grad for parameter in self.module.parameters()):
            return
        for part in self.module.modules():
            within = [parameter.requires_grad for parameter in part.parameters()]
            if within and not any(within):
                part.eval()

    def end(self) -> None:
        """Thaw what was frozen here, and go to evaluation mode."""
        if self.plan is not None:
            self.module.requires_grad_(True)
        self.module.eval()


def matching(names: Iterable[str], patterns: Iterable[str], *, where: str) -> set[str]:
    """Return the names that a pattern matches.

    Parameters
    ----------
    names : iterable of str
        Of all parameters.
    patterns : iterable of str
        As of the shell.
    where : str
        The setting that holds them, for the message.

    Returns
    -------
    set of str
        Names.

    Raises
    ------
    ConfigError
        If a pattern matches none.
    """
    names, found = list(names), set()
    for pattern in patterns:
        hits = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not hits:
            raise ConfigError(f"{where}: pattern {pattern!r} matches no parameter. {did_you_mean(pattern, names)}")
        found.update(hits)
    return found


def _plan(trainable: Any) -> dict[int, list[str]] | None:
    if trainable is None:
        return None
    by_epoch: Mapping[Any, Any] = trainable if isinstance(trainable, Mapping) else {0: trainable}
    plan: dict[int, list[str]] = {}
    for epoch, patterns in by_epoch.items():
        if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
            raise ConfigError(f"trainable: epochs must be ints >= 0, got {epoch!r}")
        plan[epoch] = [patterns] if isinstance(patterns, str) else _strings(patterns)
    return plan


def _strings(patterns: Any) -> list[str]:
    if not isinstance(patterns, Iterable) or not all(isinstance(pattern, str) for pattern in patterns):
        raise ConfigError(f"trainable: patterns must be strings, got {patterns!r}")
    return list(patterns)
