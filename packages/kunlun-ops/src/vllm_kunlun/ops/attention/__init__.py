# SPDX-License-Identifier: Apache-2.0
"""Dense attention: backend, metadata of a step, implementation, cache write, soft cap.

Latent attention (MLA) is the wheel kunlun-mla's, encoders' attention is in ``torch_ops``.
"""
