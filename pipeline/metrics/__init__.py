"""Numbers about models and explanations: classification, faithfulness, localisation, statistics.

from pipeline.metrics import insertion_deletion
"""

from pipeline.metrics.public import InsertionDeletion, insertion_deletion

__all__ = ["InsertionDeletion", "insertion_deletion"]
