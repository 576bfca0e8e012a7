# SPDX-License-Identifier: Apache-2.0
"""The start of an engine: it says why it cannot, last, and its sockets leave nothing behind."""
