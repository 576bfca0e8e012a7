# SPDX-License-Identifier: Apache-2.0
"""Gated delta net (GDN) in the engine: metadata of a step, one layer, whether drafts are served.

The ops that it calls are in ``torch_ops.gdn`` and ``torch_ops.causal_conv1d``.
"""
