# SPDX-License-Identifier: Apache-2.0
"""The storage backend `directory`: qcow2 images in folders, made and changed by qemu-img."""
