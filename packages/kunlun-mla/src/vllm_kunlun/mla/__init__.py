# SPDX-License-Identifier: Apache-2.0
"""Multi-head latent attention on the vendor's functions, dense and sparse.

Importing this package imports neither torch nor vLLM.
"""
