# SPDX-License-Identifier: Apache-2.0
"""For authors of plugins and tests: conformance suites, builders, a fake cluster."""
