// SPDX-License-Identifier: GPL-2.0
/* Static key of UBP, and its symbols for modules. */

#include <linux/export.h>
#include <linux/ubp.h>

DEFINE_STATIC_KEY_DEFERRED_FALSE(ubp_active, HZ);

EXPORT_SYMBOL_GPL(ubp_insert_bkpt);
EXPORT_SYMBOL_GPL(ubp_remove_bkpt);
EXPORT_SYMBOL_GPL(ubp_validate_insn_addr);
EXPORT_SYMBOL_GPL(ubp_analyze_insn);
