// SPDX-License-Identifier: GPL-2.0
/*
 * What only C can say of UBP: its static key.
 */

#include <linux/ubp.h>

DEFINE_STATIC_KEY_DEFERRED_FALSE(ubp_active, HZ);
