# SPDX-License-Identifier: Apache-2.0
"""The steps of a release of one wheel; ``support/release.py`` and ``support/tagged.py`` put them in
order, and docs/releasing.md tells what they are for."""
