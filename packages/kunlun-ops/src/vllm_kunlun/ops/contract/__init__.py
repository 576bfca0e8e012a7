# SPDX-License-Identifier: Apache-2.0
"""What the vendor's functions take and compute, as data: each fact stands here once.

- ``contract.json``, read by ``functions``: every function with its section and the call we make.
- ``sections.md``: conventions, layouts and units, by section.
- ``limits``: each number that a card sets.
- ``assumptions``: what is taken for granted until a card has answered, one file for each area.
- ``findings``: points on which public evidence contradicts itself, and the form in force.
- ``signatures``: whether an installed library takes the calls.

``docs/vendor-contract.md`` in the repository is written from these.
"""
