# SPDX-License-Identifier: Apache-2.0
"""What ``vllm-kunlun serve`` adds to the user's command, and why."""
