"""Count, time and write down what happens. Knows nothing of models, requests or HTTP."""
