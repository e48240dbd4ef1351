# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""`python -m resrank_training`: what `torchrun -m` starts on every process."""

from .cli import main

main()
