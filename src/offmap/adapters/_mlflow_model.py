"""The model that MLflow opens: a script that it runs, beside the guard's folder."""

from __future__ import annotations

from typing import Any

import mlflow
from mlflow.models import set_model

from offmap.scale import Scorer


class GuardModel(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined,misc]
    """A guard over tables."""

    def load_context(self, context: Any) -> None:
        """Open the guard."""
        self.scorer = Scorer(context.artifacts["guard"], keep=[])

    # MLflow would take type hints for a schema of the table.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """A table of verdicts, a row each, under the index of the input."""
        import pandas as pd

        return pd.DataFrame(self.scorer(model_input), index=model_input.index)


set_model(GuardModel())
