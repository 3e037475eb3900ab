# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The scenarios, one file for a subject. Every module here is loaded by tests/scenario/run.
