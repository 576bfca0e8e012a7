# SPDX-License-Identifier: Apache-2.0
"""What tests of several files share: checkpoints, the reference, the engine, cases by hand."""
