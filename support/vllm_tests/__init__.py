# SPDX-License-Identifier: Apache-2.0
"""vLLM's own tests on our platform: `python support/upstream.py`, docs/upstream-tests.md."""
