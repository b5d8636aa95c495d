"""Shapes and rows of made-up tables, and copies of weights from the authors' modules into ours."""

from __future__ import annotations

import torch

from torchstrata.data.encode import Shapes

NUMBERS = Shapes({"number": (5,)})
MIXED = Shapes({"number": (3,), "category": (3,)}, levels=(4, 2, 6))
CATEGORIES = Shapes({"category": (2,)}, levels=(4, 3))
TABLES = {"numbers": NUMBERS, "mixed": MIXED, "categories": CATEGORIES}


def rows_of(shapes: Shapes, n: int = 40, seed: int = 1):
    """Return rows as a network gets them: a tensor where there are numbers only, else a dict."""
    generator = torch.Generator().manual_seed(seed)
    x = {}
    if "number" in shapes:
        x["number"] = torch.randn(n, *shapes["number"], generator=generator)
        x["number"][:, 0] = (x["number"][:, 0] > 0).float()  # a boolean
    if "category" in shapes:
        x["category"] = torch.stack([torch.randint(k, (n,), generator=generator) for k in shapes.levels], 1)
    return x["number"] if list(x) == ["number"] else x


def showing(shapes: Shapes, x) -> Shapes:
    """Return the shapes with training rows."""
    shown = Shapes(dict(shapes), shapes.levels)
    shown.rows = x if isinstance(x, dict) else {"number": x}
    return shown


def parts_of(x):
    """Return numbers and categories, None where there are none."""
    return (x.get("number"), x.get("category")) if isinstance(x, dict) else (x, None)


def shake(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give every weight another value, so that what begins at zero or one is seen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return module


def set_(parameter: torch.Tensor, value: torch.Tensor) -> None:
    """Copy values of the same shape."""
    assert parameter.shape == value.shape, (parameter.shape, value.shape)
    with torch.no_grad():
        parameter.copy_(value)


def copy_embedding(theirs, ours) -> None:
    """Copy the weights of an embedding of numbers of rtdl_num_embeddings into ours."""
    if hasattr(theirs, "impl"):  # piecewise-linear
        if theirs.linear0 is not None:
            copy_affine(theirs.linear0, ours.straight)
        set_(ours.linear.weight, spread(theirs, ours.linear.weight.shape[1]))
        if theirs.linear.bias is not None:
            set_(ours.linear.bias, theirs.linear.bias)
    elif hasattr(theirs, "periodic"):
        set_(ours.waves.weight, theirs.periodic.weight)
        set_(ours.linear.weight, theirs.linear.weight)
        set_(ours.linear.bias, theirs.linear.bias)
    else:
        copy_affine(getattr(theirs, "linear", theirs), ours.linear)


def copy_affine(theirs, ours) -> None:
    """Copy a linear embedding."""
    set_(ours.weight, theirs.weight)
    set_(ours.bias, theirs.bias)


def spread(theirs, n_bins: int) -> torch.Tensor:
    """Put their weights of bins where ours stand: theirs keep a column's last bin at the end, ours have no gap."""
    n, most, size = theirs.linear.weight.shape
    out = torch.zeros(n, n_bins, size)
    for column in range(n):
        valid = torch.ones(most, dtype=torch.bool) if theirs.impl.mask is None else theirs.impl.mask[column]
        weight = theirs.linear.weight[column][valid]
        out[column, : len(weight)] = weight
    return out.detach()


def bins_of(module) -> list[torch.Tensor]:
    """Return the edges of our bins, as the authors' modules take them."""
    edges = []
    for left, slope in zip(module.left, module.slope, strict=True):
        used = slope > 0
        edges.append(torch.cat([left[used], (left[used] + 1 / slope[used])[-1:]]))
    return edges
