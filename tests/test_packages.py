"""Versions of the packages a result depends on."""

import torch

from pipeline.packages import package_versions


def test_versions_are_those_installed():
    versions = package_versions()
    assert versions["torch"] == torch.__version__
    assert list(versions) == sorted(versions)
