"""Judge answers by what they attended to: sentences at risk, calls that obeyed others. Knows no protocol."""
