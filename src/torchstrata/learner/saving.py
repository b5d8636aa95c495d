"""save, load: settings as JSON, weights as safetensors, one file, no pickle.

Nothing in the file can run code: classes are looked up by name among ours, and a network, loss or optimizer of your own
is handed to ``load`` by you. A SHA-256 over everything shows damage, which the safetensors format does not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from sklearn.impute import SimpleImputer
from sklearn.utils.validation import check_is_fitted

from torchstrata.data.arrays import ArrayColumn
from torchstrata.data.atomic import write_atomic
from torchstrata.data.encode import Encoder, Shapes
from torchstrata.errors import ConfigError, DataError, did_you_mean
from torchstrata.learner.base import TorchLearner
from torchstrata.learner.calibration import Calibration
from torchstrata.learner.classifier import Labels, TorchClassifier
from torchstrata.learner.heads import Columns
from torchstrata.learner.job import outputs_for
from torchstrata.learner.regressor import Numbers, TorchRegressor
from torchstrata.network import layers
from torchstrata.network.nodes import Layer
from torchstrata.network.tabular import build_network
from torchstrata.params import Params
from torchstrata.training.loss import Loss, known_losses, resolve_loss
from torchstrata.training.runtime import resolve_runtime

FORMAT = 1
LEARNERS = {"TorchClassifier": TorchClassifier, "TorchRegressor": TorchRegressor}
# Where the values of settings are looked up by name; nothing else is ever imported for a file.
PARTS = (
    "network.tabular",
    "network.resnet",
    "network.fttransformer",
    "network.tabm",
    "network.realmlp",
    "network.nodes",
    "network.blocks",
    "network.graph",
    "training.several",
    "training.optim",
    "training.schedules",
    "training.state",
    "training.runtime",
    "batches.samplers",
    "batches.balanced",
    "batches.grouped",
)
_FITTED = ("best_epoch_", "best_score_", "stop_reason_", "seed_", "n_features_in_")
_SETTINGS = ("scaling", "clip", "max_categories")  # of an encoder, beside sequences
_ENCODER = ("names_", "kinds_", "dropped_features_", "number_names_", "category_names_", "levels_", "_named")


def save(learner: TorchLearner, path: str | Path) -> Path:
    """Write a fitted learner to one file.

    Parameters
    ----------
    learner : TorchClassifier or TorchRegressor
        Fitted.
    path : str or Path
        The file; replaced as a whole if it exists.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ConfigError
        If the encoder is a scikit-learn transformer, which only pickle could keep.
    NotFittedError
        If there is nothing to save.
    """
    check_is_fitted(learner, "network_")
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"cannot save to {str(path)!r}: it must be a file in a folder that exists")
    tensors = _apart(learner.network_)
    document = {
        "format": FORMAT,
        "learner": type(learner).__name__,
        "settings": {name: _to_json(value) for name, value in learner.get_params(deep=False).items()},
        "fitted": {name: getattr(learner, name) for name in _FITTED},
        "feature_names": [str(name) for name in getattr(learner, "feature_names_in_", [])],
        "history": learner.history_.to_dict("list"),
        "encoder": _encoder_state(learner.encoder_, tensors),
        "target": _target_state(learner, tensors),
        "shapes": _shapes_state(learner),
    }
    text = json.dumps(document)
    write_atomic(path, to_bytes(tensors, metadata={"torchstrata": text, "sha256": _digest(text, tensors)}))
    return path


def load(path: str | Path, **parts: Any) -> TorchLearner:
    """Read a learner that :func:`save` wrote; its predictions are the same, bit by bit.

    Parameters
    ----------
    path : str or Path
        The file.
    **parts
        Settings that a file cannot hold: ``network=``, ``loss=``, ``optimizer=`` of your own, as they were given to the
        learner. Others may be given too, such as ``runtime="cuda"``.

    Returns
    -------
    TorchClassifier or TorchRegressor
        Fitted.

    Raises
    ------
    DataError
        If the file is damaged, foreign or of a newer format.
    ConfigError
        If a part of your own is not given, or does not fit.
    """
    document, tensors = _read(Path(path))
    learner = _with_settings(document, parts)
    for name in _FITTED:
        setattr(learner, name, document["fitted"][name])
    if document["feature_names"]:
        learner.feature_names_in_ = np.array(document["feature_names"], dtype=object)
    learner.history_ = pd.DataFrame(document["history"])
    learner.encoder_ = _encoder_from(document["encoder"], tensors)
    learner.loss_ = resolve_loss(learner.loss, learner._kind)
    _restore_target(learner, document["target"], tensors)
    _restore_network(learner, document, tensors)
    return learner


# the file


def _apart(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return weights by name, each with memory of its own: the format takes no weight that stands at two places."""
    found, seen = {}, set()
    for name, given in module.state_dict().items():
        tensor = given.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        found[f"network.{name}"] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return found


def _digest(text: str, tensors: dict[str, torch.Tensor]) -> str:
    found = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        if tensor.numel():  # one of no elements has a stride that no view takes
            found.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    if not path.is_file():
        raise DataError(f"no file {str(path)!r}: load reads what learner.save(path) wrote")
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        text = about["torchstrata"]
        if _digest(text, tensors) != about["sha256"]:
            raise DataError(f"{str(path)!r} is damaged: its checksum does not fit its content")
        document = json.loads(text)
    except (SafetensorError, KeyError, ValueError, RuntimeError, OSError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{str(path)!r} is damaged, or not written by learner.save ({type(error).__name__})") from None
    if document["format"] > FORMAT or document["learner"] not in LEARNERS:
        raise DataError(
            f"{str(path)!r} has format {document['format']}; this version of torchstrata reads up to {FORMAT}"
        )
    return document, tensors


# settings


def _to_json(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Loss):
        return _ours("Loss", value, name=value.__name__) if value.__name__ in known_losses() else _foreign(value)
    if isinstance(value, Params | Encoder):
        name = _class_name(type(value))
        return _ours(name, value) if _known(name) is type(value) else _foreign(value)
    if isinstance(value, tuple | list):
        return {"kind": type(value).__name__, "values": [_to_json(v) for v in value]}
    if isinstance(value, dict):
        return {"kind": "dict", "values": [[_to_json(k), _to_json(v)] for k, v in value.items()]}
    return _foreign(value)


def _ours(kind: str, value: Any, **more: Any) -> dict[str, Any]:
    settings = {name: _to_json(setting) for name, setting in value.get_params(deep=False).items()}
    return {"kind": "part", "class": kind, "settings": settings, **more}


def _foreign(value: Any) -> dict[str, str]:
    return {"kind": "foreign", "repr": repr(value)[:200]}


def _class_name(kind: type) -> str:
    # torch's names come twice: Linear is a network, layers.Linear a layer
    return f"layers.{kind.__name__}" if issubclass(kind, Layer) and kind in vars(layers).values() else kind.__name__


def _known(name: str) -> type | None:
    if name == "Encoder":
        return Encoder
    modules = [importlib.import_module(f"torchstrata.{part}") for part in PARTS]  # a fixed list, nothing from the file
    if name.startswith("layers."):
        modules, name = [layers], name.removeprefix("layers.")
    found = next((kind for m in modules if isinstance(kind := vars(m).get(name), type)), None)
    return found if found is not None and issubclass(found, Params) else None


def _from_json(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value["kind"] in ("tuple", "list"):
        return {"tuple": tuple, "list": list}[value["kind"]](_from_json(v) for v in value["values"])
    if value["kind"] == "dict":
        return {_from_json(k): _from_json(v) for k, v in value["values"]}
    settings = {name: _from_json(setting) for name, setting in value["settings"].items()}
    if value["class"] == "Loss":
        return known_losses()[value["name"]].replace(**settings)
    made = _known(value["class"])
    if made is None:
        raise DataError(f"the file names a part {value['class']!r} that this version of torchstrata does not have")
    return made(**settings)


def _with_settings(document: dict[str, Any], parts: dict[str, Any]) -> TorchLearner:
    settings = {}
    unknown = sorted(set(parts) - set(document["settings"]))
    if unknown:
        raise ConfigError(f"load: {document['learner']} has no setting {unknown[0]!r}. "
                          + did_you_mean(unknown[0], document["settings"]))  # fmt: skip
    for name, value in document["settings"].items():
        if name in parts:
            settings[name] = parts[name]
        elif _holds_foreign(value):
            if name in ("network", "loss"):
                raise ConfigError(f"the {name} of this learner is your own, {_shown(value)}: load(path, {name}=...)")
        else:
            settings[name] = _from_json(value)  # what only a new fit would need is left at its default otherwise
    return LEARNERS[document["learner"]](**settings)


def _holds_foreign(value: Any) -> bool:
    if isinstance(value, list):
        return any(_holds_foreign(v) for v in value)
    if not isinstance(value, dict):
        return False
    inside = [*value.get("values", ()), *value.get("settings", {}).values()]
    return value["kind"] == "foreign" or any(_holds_foreign(v) for v in inside)


def _shown(value: Any) -> str:
    if not isinstance(value, dict):
        return repr(value)
    inside = [*value.get("values", ()), *value.get("settings", {}).values()]
    return value.get("repr") or next((_shown(v) for v in inside if _holds_foreign(v)), "in a list")


# what was learnt


def _encoder_state(encoder: Any, tensors: dict[str, torch.Tensor]) -> dict[str, Any] | None:
    if encoder is None:
        return None
    if type(encoder) is not Encoder:
        raise ConfigError(
            f"encoder {type(encoder).__name__} cannot be saved without pickle: use encoder='auto' or None, "
            "or put the transformer before the learner in a Pipeline and save it apart"
        )
    arrays = {"center": encoder.center_, "scale": encoder.scale_}
    if encoder.number_names_:
        arrays["fill"] = encoder.imputer_.statistics_
    tensors.update({f"encoder.{name}": torch.from_numpy(np.array(values)) for name, values in arrays.items()})
    arrays_of = {name: dataclasses.asdict(learnt) for name, learnt in encoder.arrays_.items()}
    own = {name: getattr(encoder, name) for name in (*_SETTINGS, *_ENCODER)}
    return {**own, "sequences": list(encoder.sequences), "arrays": arrays_of}


def _encoder_from(state: dict[str, Any] | None, tensors: dict[str, torch.Tensor]) -> Encoder | None:
    if state is None:
        return None
    settings = {name: state[name] for name in _SETTINGS if name in state}
    encoder = Encoder(**settings, sequences=tuple(state.get("sequences", ())))
    for name in _ENCODER:
        setattr(encoder, name, state[name])
    encoder.center_, encoder.scale_ = (tensors[f"encoder.{name}"].numpy() for name in ("center", "scale"))
    encoder.imputer_ = SimpleImputer(strategy="median", keep_empty_features=True)
    if "encoder.fill" in tensors:
        encoder.imputer_.fit(tensors["encoder.fill"].numpy()[None])  # the median of one row is the row
    encoder.arrays_ = {
        name: ArrayColumn(**{**learnt, "shape": tuple(learnt["shape"])})
        for name, learnt in state.get("arrays", {}).items()
    }
    encoder.shapes_ = encoder._shapes()
    encoder._find_places()
    return encoder


def _target_state(learner: TorchLearner, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    target: Any = learner._target
    if isinstance(target, Columns):
        return {"heads": {name: _head_state(head) for name, head in target.heads.items()}}
    if isinstance(target, Numbers):
        tensors["target.center"] = torch.from_numpy(np.array(target.center))
        tensors["target.scale"] = torch.from_numpy(np.array(target.scale))
        return {"log": target.log}
    classes = learner.classes_
    priors = {name: getattr(learner, name).tolist() for name in ("prior_", "trained_prior_")}
    calibration = None if learner.calibration_ is None else dataclasses.asdict(learner.calibration_)
    kind = "object" if classes.dtype == object else classes.dtype.str
    return {"classes": classes.tolist(), "dtype": kind, "calibration": calibration, **priors}


def _head_state(head: Numbers | Labels) -> dict[str, Any]:
    if isinstance(head, Labels):
        return {"classes": head.classes.tolist()}
    return {"center": float(head.center), "scale": float(head.scale), "log": head.log}


def _head_from(state: dict[str, Any]) -> Numbers | Labels:
    if "classes" in state:
        return Labels(np.array(state["classes"], dtype=np.float64))
    return Numbers(np.array(state["center"]), np.array(state["scale"]), log=state["log"])


def _restore_target(learner: Any, state: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    if "heads" in state:
        learner._target = Columns({name: _head_from(head) for name, head in state["heads"].items()})
        return
    if isinstance(learner, TorchRegressor):
        learner._target = Numbers(tensors["target.center"].numpy(), tensors["target.scale"].numpy(), log=state["log"])
        return
    learner.classes_ = np.array(state["classes"], dtype=np.dtype(state["dtype"]))
    learner._target = Labels(learner.classes_)
    learner.calibration_ = None if state["calibration"] is None else Calibration(**state["calibration"])
    learner.prior_, learner.trained_prior_ = (np.array(state[name]) for name in ("prior_", "trained_prior_"))


def _shapes_state(learner: TorchLearner) -> dict[str, Any]:
    shapes = learner._shapes
    return {"shapes": {name: list(shape) for name, shape in shapes.items()}, "levels": list(shapes.levels),
            "sequences": shapes.sequences, "bytes": getattr(learner, "_bytes", False)}  # fmt: skip


def _restore_network(learner: Any, document: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    known = document["shapes"]
    shapes = Shapes({name: tuple(s) for name, s in known["shapes"].items()}, known["levels"], known.get("sequences"))
    traits = learner.loss_.traits
    outputs = outputs_for(learner._target.n_outputs(traits), traits)
    weights = {name.removeprefix("network."): t for name, t in tensors.items() if name.startswith("network.")}
    try:
        # on "meta" nothing is allocated: a file that claims a huge network fails at the shapes, not at the memory
        ours = isinstance(learner.network, Params) and not _holds_foreign(document["settings"]["network"])
        with torch.device("meta" if ours else "cpu"), torch.random.fork_rng([]):
            module = build_network(learner.network, shapes, outputs)
        tied = _tied(module)
        module.load_state_dict(weights, assign=True)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"network {learner.network!r} does not fit the weights of the file: {error}") from None
    for first, owner, name in tied:
        setattr(module.get_submodule(owner), name, module.get_parameter(first))
    learner._shapes, learner._bytes = shapes, document["shapes"].get("bytes", False)
    size = sum(p.numel() for p in module.parameters())
    learner.runtime_ = resolve_runtime(learner.runtime).decide(parameters=size, batch_rows=1)
    learner.network_ = module.to(learner.runtime_.device).eval().requires_grad_(True)


def _tied(module: torch.nn.Module) -> list[tuple[str, str, str]]:
    """List weights that stand at a second place: the first name, the module of the second and its name there."""
    first: dict[int, str] = {}
    places = [(first.setdefault(id(p), name), name) for name, p in module.named_parameters(remove_duplicate=False)]
    return [(known, *name.rpartition(".")[::2]) for known, name in places if known != name]
