# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What the scenarios are written with: the host, the daemon, the bus, the client, counters. No scenario is in here.
