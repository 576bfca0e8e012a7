# SPDX-License-Identifier: Apache-2.0
"""What moves in vLLM from release to release, each in one file.

Only files in a folder of this name, here or in another wheel, ask which release is installed: a
test of the repository holds the rest of the code to that.
"""
