"""Promotion on evidence: versions are judged by the policy in params.yaml, and the best get the aliases.

`registered` reads the versions, `comparability` says which may be compared, `answers` and `explanations` measure what
`judging` asks for, `planning` says which alias goes where, and `moving` does it: a line in the promotion `log`, the
aliases, the `tags` of versions, a run as `audit`. `state` says how far along the log a store is.
"""
