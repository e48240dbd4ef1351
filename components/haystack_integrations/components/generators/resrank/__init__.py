# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from .chat_generator import EndpointChatGenerator

__all__ = ["EndpointChatGenerator"]
