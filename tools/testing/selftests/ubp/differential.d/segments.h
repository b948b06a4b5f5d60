/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Segment registers, for signal handlers: the C library's variables of a thread
 * are in a segment that the instruction may have changed.
 */
#ifndef _SEGMENTS_H
#define _SEGMENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "run.h"

#define get_selector(name) ({						\
	uint16_t __selector;						\
	asm volatile("mov %%" #name ", %0" : "=r"(__selector));		\
	__selector;							\
})
#define set_selector(name, value) ({					\
	asm volatile("mov %0, %%" #name : : "r"((uint32_t)(value)) : "memory"); \
})

#ifdef __x86_64__
#define get_base(name) ({						\
	uint64_t __base;						\
	asm volatile("rd" #name "base %0" : "=r"(__base));		\
	__base;								\
})
#define set_base(name, value) ({					\
	asm volatile("wr" #name "base %0" : : "r"((uint64_t)(value)) : "memory"); \
})
#endif

/* Chooses FS and GS of all cases: segments with a base other than 0. */
bool segments_setup(bool has_fsgsbase);

/* Segments of all cases, for registers that signal frames do not contain. */
extern struct segments case_segments;

static __always_inline void segments_get(struct segments *segments, bool has_fsgsbase)
{
	segments->ds = get_selector(ds);
	segments->es = get_selector(es);
	segments->fs = get_selector(fs);
	segments->gs = get_selector(gs);
#ifdef __x86_64__
	if (has_fsgsbase) {
		segments->fs_base = get_base(fs);
		segments->gs_base = get_base(gs);
	}
#endif
}

/*
 * Only writes registers that differ, because some selectors that an exception
 * has left cannot be loaded.
 */
static __always_inline void segments_set(const struct segments *to, bool has_fsgsbase)
{
	if (get_selector(ds) != to->ds)
		set_selector(ds, to->ds);
	if (get_selector(es) != to->es)
		set_selector(es, to->es);
	if (get_selector(fs) != to->fs)
		set_selector(fs, to->fs);
	if (get_selector(gs) != to->gs)
		set_selector(gs, to->gs);
#ifdef __x86_64__
	if (has_fsgsbase) {
		set_base(fs, to->fs_base);
		set_base(gs, to->gs_base);
	}
#endif
}

#endif /* _SEGMENTS_H */
