"""Your own network, loss, optimizer and callback: plain torch objects fit without adapters."""

import functools

import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import torchstrata as ts


class Gated(nn.Module):
    """Built from shapes when the data are seen."""

    def __init__(self, shapes, n_outputs, width=16):
        super().__init__()
        n_numbers = shapes["number"][0]
        self.value, self.gate = nn.Linear(n_numbers, width), nn.Linear(n_numbers, width)
        self.head = nn.Linear(width, n_outputs)

    def forward(self, x):
        return self.head(self.value(x) * torch.sigmoid(self.gate(x)))


class StopWhenGood(ts.Callback):
    """Stop after the first epoch whose validation accuracy is perfect."""

    def on_epoch_end(self, state):
        if state.history[-1].get("valid_accuracy") == 1.0:
            state.stop = "perfect on the validation rows"


X, y = load_wine(return_X_y=True)
learner = ts.TorchClassifier(
    Gated,
    loss=nn.CrossEntropyLoss(label_smoothing=0.1),
    optimizer=functools.partial(torch.optim.AdamW, lr=1e-2),
    callbacks=[StopWhenGood()],
    valid=0.25,
    scoring="accuracy",
    max_epochs=50,
    random_state=0,
)
learner.fit(X, y)
print(learner.history_.tail(3).round(3).to_string(index=False))
print("stopped:", learner.stop_reason_)
print(learner.runtime_)

# A scikit-learn estimator like any other: in a pipeline, in a search, reached by name.
learner = ts.TorchClassifier(ts.MLP((32,)), encoder=None, max_epochs=15, random_state=0)
pipeline = make_pipeline(StandardScaler(), learner)
grid = {"torchclassifier__optimizer__lr": [1e-3, 1e-2], "torchclassifier__network__hidden": [(16,), (32, 32)]}
search = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
print("best:", search.best_params_, round(search.best_score_, 3))
