# SPDX-License-Identifier: Apache-2.0
"""Loading a checkpoint: judged by its files' headers first, then read."""
