"""Export: from a model folder's weights to inference graphs."""
