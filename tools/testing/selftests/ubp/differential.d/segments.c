// SPDX-License-Identifier: GPL-2.0
/* Segments of cases: see segments.h. */
#include <asm/ldt.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "segments.h"

struct segments case_segments;

#ifdef __x86_64__
bool segments_setup(bool has_fsgsbase)
{
	segments_get(&case_segments, has_fsgsbase);
	case_segments.fs_base = SEGMENT_BASE;
	case_segments.gs_base = SEGMENT_BASE;
	return true;
}
#else
bool segments_setup(bool has_fsgsbase)
{
	struct user_desc desc = {
		.entry_number = -1,
		.base_addr = SEGMENT_BASE,
		.limit = 0xfffff,
		.seg_32bit = 1,
		.limit_in_pages = 1,
	};

	if (syscall(SYS_set_thread_area, &desc))
		return false;
	case_segments.fs = desc.entry_number * 8 + 3;
	case_segments.gs = case_segments.fs;
	return true;
}
#endif
