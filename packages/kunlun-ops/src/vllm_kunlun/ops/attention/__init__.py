# SPDX-License-Identifier: Apache-2.0
"""Dense attention: backend, per-step metadata, implementation, soft-cap fallback."""
