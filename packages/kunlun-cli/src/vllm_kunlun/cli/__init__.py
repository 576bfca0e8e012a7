# SPDX-License-Identifier: Apache-2.0
"""The ``vllm-kunlun`` command: one file per command, put together in :mod:`.main`."""
