"""Where the heavy steps run: section `runner`. It decides no number, so no stage depends on it."""

import re
from typing import Literal

from pydantic import model_validator

from pipeline.params.section import Section

SCHEMES = {"dask": ("tcp://", "tls://"), "ray": ("ray://",)}


class RunnerParams(Section):
    kind: Literal["local", "dask", "ray"]
    address: str  # of the cluster's scheduler; none where there is no cluster

    @model_validator(mode="after")
    def _a_cluster_has_an_address(self) -> "RunnerParams":
        schemes = SCHEMES.get(self.kind, ("none",))
        if not self.address.startswith(schemes):
            raise ValueError(f"address: {self.address!r} is none of a {self.kind} runner; give {' or '.join(schemes)}")
        if self.kind in SCHEMES and not re.search(r":\d+$", self.address):
            raise ValueError(f"address: {self.address!r} ends with no port; give {schemes[0]}host:port")
        return self
