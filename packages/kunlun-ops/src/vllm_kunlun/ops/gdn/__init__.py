# SPDX-License-Identifier: Apache-2.0
"""Linear attention in the engine: metadata of a step, and one layer of the gated delta rule."""
