"""Write down what each request did: audit, journal, meter, spans. Knows nothing of answers."""
