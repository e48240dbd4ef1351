# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Speed and memory of ResRank against its peers, measured in the same run: `python -m benchmarks`.

Peers are timed in turns, round by round, so that noise of the machine hits all of them alike; ratios are medians over
the rounds. A bar that is missed is reported, never an error.
"""
