// SPDX-License-Identifier: GPL-2.0

#include <linux/jump_label_ratelimit.h>

__rust_helper void
rust_helper_static_branch_inc_deferred(struct static_key_false_deferred *key)
{
	static_branch_inc(&key->key);
}

__rust_helper void
rust_helper_static_branch_dec_deferred(struct static_key_false_deferred *key)
{
	static_branch_slow_dec_deferred(key);
}
