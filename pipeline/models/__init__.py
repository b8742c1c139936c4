"""The models of the study: build, weights and checkpoint make, fill and keep them; family knows how they are explained.

A model is an entry of `models` in params.yaml; FAMILIES in family.py is the registry of what can be explained.
"""

from pipeline.models._torchvision_cpu import declare_missing_operators

declare_missing_operators()  # before anything imports timm, and with it torchvision
