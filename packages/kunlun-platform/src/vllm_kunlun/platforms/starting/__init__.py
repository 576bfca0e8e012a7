# SPDX-License-Identifier: Apache-2.0
"""An engine that cannot start says why, last, in the process that the user started."""
