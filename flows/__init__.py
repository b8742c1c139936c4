"""Orchestration: one file per stage of dvc.yaml. Order, names and retries live here; the work is in pipeline/."""
