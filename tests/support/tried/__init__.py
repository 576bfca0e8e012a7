# SPDX-License-Identifier: Apache-2.0
"""What the tests of the support matrix do to try each use, by kind.

Each module has ``TRIED``: a name of :data:`support.features.USES` and a function that takes an
empty folder and prompts, and returns where the use works.
"""
