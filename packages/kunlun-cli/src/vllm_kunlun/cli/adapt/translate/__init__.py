# SPDX-License-Identifier: Apache-2.0
"""From a class of transformers to one of vLLM: read, and written anew."""
