# SPDX-License-Identifier: Apache-2.0
"""A thread is watched for a while, or from where it chooses its device."""

import subprocess
import sys

import torch

from vllm_kunlun.emulator.rehearsal import places, threads

FOREIGN = """
import _thread
import os
import threading
import time
import torch
from vllm_kunlun.emulator.rehearsal import installation, places
installation.install()
found, done = [], threading.Event()
def foreign():  # threading knows nothing of it
    with torch.cuda.device(0):
        found.append(places.is_on_device(torch.ones(1, device="cuda") + 1))
    found.append(places.is_on_device(torch.ones(1, device="cuda")))
    found.append(threading.get_native_id())
    done.set()
_thread.start_new_thread(foreign, ())
done.wait(60)
while os.path.exists(f"/proc/self/task/{found[-1]}"):  # nobody can join it
    time.sleep(0.01)
print(found[:-1])
"""
"""The thread ends before Python does: torch asks for the interpreter as a thread with a mode ends,
and aborts the process where the interpreter is ending, too."""


def test_a_thread_that_python_did_not_start_is_watched_from_its_device_on():
    ran = subprocess.run(
        [sys.executable, "-c", FOREIGN], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1] == "[True, True]"


def test_watching_ends():
    with threads.watched():
        x = torch.ones(1, device="cuda")
    assert (places.is_on_device(x), places.is_on_device(x + 1)) == (True, False)


def test_without_an_installation_no_thread_is_watched_by_itself():
    threads.watch_from_here()
    assert not places.is_on_device(places.put_on_device(torch.ones(1)) + 1)
