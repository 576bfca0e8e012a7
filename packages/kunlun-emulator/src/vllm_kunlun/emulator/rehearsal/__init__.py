# SPDX-License-Identifier: Apache-2.0
"""The card's own path over host memory: vLLM's GPU worker, captured graphs, a step ahead.

What stands where the vendor's torch does: the names of ``torch.cuda`` (``facade``), calls that name
the device (``devices``), every op (``watch``), captured graphs and their memory (``graphs``,
``pool``), streams and copies that are to be waited for (``streams``), and the vendor's functions
(``vendor``). What a card would punish is an error with a name (``faults``); what the device is
asked for is counted (``counts``).
"""
