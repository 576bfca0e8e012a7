# SPDX-License-Identifier: Apache-2.0
"""What the whole-engine tests share: checkpoints, the reference, and the engine."""
