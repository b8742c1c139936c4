"""Numbers about models and explanations: classification, faithfulness, localisation, statistics."""
