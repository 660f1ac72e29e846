"""Looking into a training: where the time goes, how each layer fares, what an operator costs."""
