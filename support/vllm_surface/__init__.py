# SPDX-License-Identifier: Apache-2.0
"""What this project uses of vLLM, read from sources alone: nothing of vLLM is imported.

``tree`` finds definitions, ``uses`` finds what our sources use, ``entries`` writes a use down,
``compare`` says what differs, ``vllm_sources`` finds an installed or another vLLM.
"""
