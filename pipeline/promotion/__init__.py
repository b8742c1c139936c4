"""Promotion on evidence: versions are judged by the policy in params.yaml, and the best get the aliases.

`registered` reads the versions, `answers` and `explanations` measure what `judging` asks for, `planning` says which
alias goes where, and `moving` does it, with a line in the promotion `log`.
"""
