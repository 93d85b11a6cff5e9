"""Peak memory of loading: the file once, and little else."""

from __future__ import annotations

import sys

import pytest

CODE = """
import hashlib, os, sys, tempfile
import timm, torch
from safetensors.torch import save_file
from zoo.hub.load import load_into
from zoo.hub.source import Source
from zoo.hub.weights import open_weights

def status(field):
    with open("/proc/self/status") as stream:
        return next(int(line.split()[1]) * 1024 for line in stream if line.startswith(field))

class Wide(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(1024, 1024) for _ in range(32))

path = sys.argv[1]
first = Wide()
save_file(first.state_dict(), path)
digest = hashlib.sha256(open(path, "rb").read()).hexdigest()
del first
size = os.path.getsize(path)
source = Source("wide", "", None, os.path.basename(path), sha256=digest, size=size, root="/")
load_into(lambda: torch.nn.Linear(2, 2), {"weight": torch.ones(2, 2), "bias": torch.ones(2)})  # imports, caches
with open("/proc/self/clear_refs", "w") as stream:
    stream.write("5")  # the high-water mark starts anew
before = status("VmRSS")
model, report = load_into(Wide, open_weights(path, source))
assert report.share == 1.0
print((status("VmHWM") - before) / size)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_is_the_file_once(client, tmp_path):
    share = float(client(CODE, str(tmp_path / "w.safetensors"), OMP_NUM_THREADS="1").stdout)
    assert 0.9 < share <= 1.1
