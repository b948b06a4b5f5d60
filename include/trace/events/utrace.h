/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM utrace

#if !defined(_TRACE_UTRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_UTRACE_H

#include <linux/ctype.h>
#include <linux/minmax.h>
#include <linux/string.h>
#include <linux/trace_seq.h>
#include <linux/tracepoint.h>

/*
 * The recorded length of a name. Together with the other fields it has to fit
 * into a page of the ring buffer.
 */
#define UTRACE_SYS_PATH_LEN	3840

#ifdef CREATE_TRACE_POINTS

/* The space for the other fields of a line. */
#define UTRACE_SYS_PATH_RESERVE	1024

/*
 * A program chooses its file names, so characters that could end the quotes or
 * the line, and bytes that are no character, are shown in octal. Only the
 * output is escaped: the record contains the original name.
 */
static inline const char *
__print_utrace_name(struct trace_seq *p, const char *name, size_t len)
{
	const char *ret = trace_seq_buffer_ptr(p);
	size_t i;

	for (i = 0; i < len; i++) {
		unsigned char c = name[i];

		if (seq_buf_buffer_left(&p->seq) < UTRACE_SYS_PATH_RESERVE) {
			trace_seq_puts(p, "...");
			break;
		}
		if (isascii(c) && isprint(c) && c != '"' && c != '\\')
			trace_seq_putc(p, c);
		else
			trace_seq_printf(p, "\\%03o", c);
	}
	trace_seq_putc(p, 0);
	return ret;
}

#endif /* CREATE_TRACE_POINTS */

/*
 * In all events, @compat means that @nr is from the table of 32-bit programs,
 * and @ip is the address at which the program continues after the call.
 */
TRACE_EVENT(utrace_sys_enter,

	TP_PROTO(int nr, bool compat, unsigned long ip,
		 const unsigned long *args),

	TP_ARGS(nr, compat, ip, args),

	TP_STRUCT__entry(
		__field(int, nr)
		__field(bool, compat)
		__field(unsigned long, ip)
		__array(unsigned long, args, 6)
	),

	TP_fast_assign(
		__entry->nr = nr;
		__entry->compat = compat;
		__entry->ip = ip;
		memcpy(__entry->args, args, sizeof(__entry->args));
	),

	TP_printk("nr=%d compat=%d ip=0x%lx args=(0x%lx, 0x%lx, 0x%lx, 0x%lx, 0x%lx, 0x%lx)",
		  __entry->nr, __entry->compat, __entry->ip,
		  __entry->args[0], __entry->args[1], __entry->args[2],
		  __entry->args[3], __entry->args[4], __entry->args[5])
);

TRACE_EVENT(utrace_sys_exit,

	TP_PROTO(int nr, bool compat, unsigned long ip, long result),

	TP_ARGS(nr, compat, ip, result),

	TP_STRUCT__entry(
		__field(int, nr)
		__field(bool, compat)
		__field(unsigned long, ip)
		__field(long, result)
	),

	TP_fast_assign(
		__entry->nr = nr;
		__entry->compat = compat;
		__entry->ip = ip;
		__entry->result = result;
	),

	TP_printk("nr=%d compat=%d ip=0x%lx result=%ld",
		  __entry->nr, __entry->compat, __entry->ip, __entry->result)
);

/*
 * The kernel has copied a file name for the call. @arg is the index of the
 * argument that points to it, or -1 if none does; @len is the whole length of
 * the name, also where @name is cut off.
 */
TRACE_EVENT(utrace_sys_path,

	TP_PROTO(int nr, bool compat, int arg, unsigned long ptr,
		 const char *name, size_t len),

	TP_ARGS(nr, compat, arg, ptr, name, len),

	TP_STRUCT__entry(
		__field(int, nr)
		__field(bool, compat)
		__field(int, arg)
		__field(unsigned long, ptr)
		__field(unsigned int, len)
		__string_len(name, name, min(len, UTRACE_SYS_PATH_LEN))
	),

	TP_fast_assign(
		__entry->nr = nr;
		__entry->compat = compat;
		__entry->arg = arg;
		__entry->ptr = ptr;
		__entry->len = len;
		__assign_str(name);
	),

	TP_printk("nr=%d compat=%d arg=%d ptr=0x%lx len=%u name=\"%s\"",
		  __entry->nr, __entry->compat, __entry->arg, __entry->ptr,
		  __entry->len,
		  __print_utrace_name(p, __get_str(name),
				      __get_dynamic_array_len(name) - 1))
);

#endif /* _TRACE_UTRACE_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
