"""The study as plain functions: data, models, training, explanations, metrics, report, tracking.

Axis letters used in shapes: n images, h x w pixels or grid cells, c channels or classes, t tokens, k heads.
Importing this package only asks the tools underneath not to phone home (see `QUIET`); it makes no folder, opens no
connection and sets no address.
"""

import os

# Every switch against telemetry and update checks, in one place. `setdefault`: a user who wants one back sets it.
QUIET = {
    "DO_NOT_TRACK": "true",  # Prefect SDK
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)
