# SPDX-License-Identifier: Apache-2.0
"""How a format's weights lie in memory, and how they become those of the card; no layers."""
