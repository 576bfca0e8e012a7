# SPDX-License-Identifier: Apache-2.0
"""What moves in vLLM from release to release and only this wheel uses, each in one file."""
