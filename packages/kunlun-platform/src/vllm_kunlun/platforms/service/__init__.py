# SPDX-License-Identifier: Apache-2.0
"""What keeps a server alive and honest: bounds of a request, and answers when its engine dies."""
