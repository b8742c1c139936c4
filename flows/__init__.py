"""Orchestration: one file per stage of dvc.yaml. Order, names, retries and progress live here; the work is in pipeline/."""
