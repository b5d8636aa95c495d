"""Architecture search: widths, number of blocks, activation, dropout and learning rate by name, in one search.

What differs only in numbers (learning rate, dropout, folds, seeds) trains as one program; the table at the end says
which candidates did.
"""

import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import torchstrata as ts

L = ts.layers
X, y = load_breast_cancer(return_X_y=True, as_frame=True)

block = ts.Chain(
    [
        L.Linear(16),
        ts.Choice({"relu": L.ReLU(), "gelu": L.GELU(), "tanh": L.Tanh()}, name="act"),
        L.Dropout(0.0),
    ]
)
network = ts.Chain([L.Linear(32, name="stem"), L.ReLU(), ts.Block(block, repeat=1, name="block"), L.Head()])
learner = ts.TorchClassifier(network, max_epochs=8, random_state=0)

# Every number has a name, and every name can be searched.
print(*(name for name in learner.get_params() if name.startswith("network__block")), sep="\n")
values = {
    "network__stem__out_features": [16, 32],
    "network__block__repeat": [1, 2],
    "network__block__body__act__selected": ["relu", "gelu"],
    "network__block__body__dropout__p": [0.1, 0.3],
    "optimizer__lr": [1e-3, 1e-2],
}
search = ts.GridSearchCV(learner, values, cv=3, scoring="roc_auc").fit(X, y)
print("best:", search.best_params_, round(search.best_score_, 3))

# Which candidates trained together: those of one architecture, over learning rates, dropouts and folds.
fits = search.vectorized_
print(fits.groupby(["together", "why"]).size().reset_index(name="fits").to_string(index=False))
found = pd.DataFrame(search.cv_results_["params"]).rename(columns=lambda name: name.split("__", 1)[1])
found["roc_auc"] = search.cv_results_["mean_test_score"].round(3)
found["together"] = fits.groupby("candidate")["together"].first()
print(found.sort_values("roc_auc", ascending=False).head().to_string(index=False))

# scikit-learn's own search takes the same names, in a pipeline too; it fits one candidate after the other.
pipeline = make_pipeline(StandardScaler(), learner.set_params(max_epochs=4))
few = {f"torchclassifier__{name}": values[name] for name in ("network__block__repeat", "optimizer__lr")}
print("pipeline:", GridSearchCV(pipeline, few, cv=2, scoring="roc_auc").fit(X, y).best_params_)
