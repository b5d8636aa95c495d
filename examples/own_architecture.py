"""Your own architecture: a line, a graph with shortcuts, a search by names, a table joined with images."""

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split

import torchstrata as ts

L = ts.layers
X, y = load_breast_cancer(return_X_y=True)

# A line: depth, width and activation have names.
network = ts.Chain(
    [
        L.Linear(32, name="stem"),
        ts.Choice({"relu": L.ReLU(), "gelu": L.GELU()}, selected="relu", name="act"),
        ts.Block(ts.Chain([L.Linear(16), L.ReLU()]), repeat=1, name="block"),
        L.Head(),
    ]
)
learner = ts.TorchClassifier(network, max_epochs=5, random_state=0)
values = {
    "network__stem__out_features": [16, 64],
    "network__act__selected": ["relu", "gelu"],
    "network__block__repeat": [0, 2],
}
search = ts.GridSearchCV(learner, values, cv=3).fit(X, y)
print("best:", search.best_params_, round(search.best_score_, 3))
print("steps:", *search.best_estimator_.runtime_.reasons["steps"])

# A graph: a layer is read twice, its outputs are added up.
x = ts.Input()
way = ts.Chain([L.LayerNorm(), L.Linear(32), L.ReLU()], name="way")
resnet = ts.Chain([L.Linear(32), ts.Block(ts.Graph(L.Add()(x, way(x))), repeat=2, name="block"), L.Head()])
print(resnet.summary({"number": (30,)}, 1).to_string(index=False))
print("resnet:", round(ts.TorchClassifier(resnet, max_epochs=5, random_state=0).fit(X, y).score(X, y), 3))


# Two inputs: an encoder that returns a dict names them, and a graph joins them.
class TableAndImage(TransformerMixin, BaseEstimator):
    """The last 64 columns are a small image."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        X = np.asarray(X)
        return {"number": X[:, :-64], "image": X[:, -64:].reshape(-1, 1, 8, 8)}


digits = load_digits()
images = digits.data / 16
brightness = np.column_stack([images.mean(1), images.std(1), images.max(1)])
seen = ts.Chain([L.Conv2d(8, 3, padding=1), L.ReLU(), L.MaxPool2d(2), L.Flatten()], name="look")(ts.Input("image"))
known = ts.Chain([L.Linear(8), L.ReLU()], name="table")(ts.Input("number"))
both = ts.Graph(L.Head()(L.Concat()(seen, known)))
learner = ts.TorchClassifier(both, encoder=TableAndImage(), max_epochs=5, random_state=0)
train, test, y_train, y_test = train_test_split(np.hstack([brightness, images]), digits.target, random_state=0)
print("joined:", round(learner.fit(train, y_train).score(test, y_test), 3))
