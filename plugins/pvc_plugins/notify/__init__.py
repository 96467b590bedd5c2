# SPDX-License-Identifier: Apache-2.0
"""Plugins that tell people and programs of events: `webhook` and `mail`. Off until they are told whom to tell."""
