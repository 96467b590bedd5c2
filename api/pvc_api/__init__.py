# SPDX-License-Identifier: Apache-2.0
"""The HTTP API: a Falcon WSGI application."""
