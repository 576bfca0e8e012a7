# SPDX-License-Identifier: Apache-2.0
"""What a server of several ranks needs beyond the collectives: capture, other hosts, an end."""
