"""The versions a result depends on, read without importing anything."""

from importlib.metadata import PackageNotFoundError, version

DECIDING = (
    "albumentations",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "pydicom",
    "scikit-learn",
    "scipy",
    "timm",
    "torch",
    "torchvision",
)


def package_versions(*more: str) -> dict[str, str]:
    """Installed versions of the packages that decide numbers, and of `more`, by name; absent ones are left out."""
    found = {}
    for name in (*DECIDING, *more):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
