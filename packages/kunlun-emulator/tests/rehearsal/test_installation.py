# SPDX-License-Identifier: Apache-2.0
"""Installed for the life of a process, the rehearsal watches all its threads."""

import subprocess
import sys

SCRIPT = """
import threading
import torch
from vllm_kunlun.emulator.rehearsal import installation
from vllm_kunlun.emulator.rehearsal.faults import WrongMemoryError
installation.install()
installation.install()
found = []
def mix():
    try:
        torch.zeros(2, device="cuda") + torch.zeros(2)
    except WrongMemoryError as error:
        found.append(type(error).__name__)
mix()
thread = threading.Thread(target=mix)
thread.start()
thread.join()
import gc; gc.collect()
from vllm_kunlun.ops import vendor_ops
try:
    vendor_ops.rmsnorm(torch.ones(1, 8), torch.ones(8), torch.ones(1, 8), 1e-6)
except WrongMemoryError as error:
    found.append("vendor")
print(found)
"""


def test_every_thread_is_watched():
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "['WrongMemoryError', 'WrongMemoryError', 'vendor']"
