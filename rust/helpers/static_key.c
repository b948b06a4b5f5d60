// SPDX-License-Identifier: GPL-2.0

#include <linux/jump_label_ratelimit.h>

__rust_helper void
rust_helper_static_branch_inc_deferred(struct static_key_false_deferred *key)
{
	static_branch_inc(&key->key);
}

/* Returns false if the key is off, or if its count would overflow. */
__rust_helper bool
rust_helper_static_branch_inc_enabled(struct static_key_false_deferred *key)
{
	return static_key_fast_inc_not_disabled(&key->key.key);
}

__rust_helper void
rust_helper_static_branch_dec_deferred(struct static_key_false_deferred *key)
{
	static_branch_slow_dec_deferred(key);
}
