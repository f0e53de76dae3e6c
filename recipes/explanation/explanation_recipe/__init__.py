"""Why a model answers as it does, as means over many patients: a Flower app."""
