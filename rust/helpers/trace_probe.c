// SPDX-License-Identifier: GPL-2.0

#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/percpu.h>
#include <linux/perf_event.h>
#include <linux/preempt.h>
#include <linux/rculist.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/uprobes.h>

#include "../../kernel/trace/trace_dynevent.h"
#include "../../kernel/trace/trace_probe.h"
#include "../../kernel/trace/trace_probe_tmpl.h"

/*
 * Functions that trace_probe_tmpl.h needs from each file that includes it. Here
 * every address is one of the current task's user space.
 */

/* The record that fetch instructions read from. */
struct rust_trace_probe_rec {
	struct pt_regs	*regs;
	/* Address at which offset 0 of the probed file would be. */
	unsigned long	file_base;
};

static nokprobe_inline int
probe_mem_read(void *dest, void *src, size_t size)
{
	return copy_from_user(dest, (const void __force __user *)src, size) ?
	       -EFAULT : 0;
}

static nokprobe_inline int
probe_mem_read_user(void *dest, void *src, size_t size)
{
	return probe_mem_read(dest, src, size);
}

static nokprobe_inline int fetch_store_strlen(unsigned long addr)
{
	long len = strnlen_user((const void __force __user *)addr,
				MAX_STRING_SIZE);

	/* A string that is too long is stored up to the limit. */
	return min_t(long, len, MAX_STRING_SIZE);
}

static nokprobe_inline int fetch_store_strlen_user(unsigned long addr)
{
	return fetch_store_strlen(addr);
}

static nokprobe_inline int
fetch_store_string(unsigned long addr, void *dest, void *base)
{
	u32 *loc = dest;
	char *dst = get_loc_data(loc, base);
	long len, room = get_loc_len(*loc);

	if (!room)
		return -ENOMEM;

	len = strncpy_from_user(dst, (const void __force __user *)addr, room);
	if (len < 0) {
		*loc = make_data_loc(0, (void *)dst - base);
		return len;
	}

	if (len == room)
		len--;
	dst[len++] = '\0';
	*loc = make_data_loc(len, (void *)dst - base);
	return len;
}

static nokprobe_inline int
fetch_store_string_user(unsigned long addr, void *dest, void *base)
{
	return fetch_store_string(addr, dest, base);
}

/*
 * Stores a string from kernel memory: the task's name, or one from the command.
 */
static nokprobe_inline int
rust_trace_probe_own_string(const char *src, void *dest, void *base)
{
	u32 *loc = dest;
	char *dst;
	ssize_t len;
	u32 room;

	if (!dest)
		return strlen(src) + 1;

	room = get_loc_len(*loc);
	if (!room)
		return -ENOMEM;

	dst = get_loc_data(loc, base);
	len = strscpy(dst, src, room);
	len = len < 0 ? room : len + 1;
	*loc = make_data_loc(len, (void *)dst - base);
	return len;
}

static nokprobe_inline unsigned long
rust_trace_probe_stack_entry(struct pt_regs *regs, unsigned int n)
{
	unsigned long sp = user_stack_pointer(regs), val;

	if (get_user(val, (unsigned long __user *)(sp + n * sizeof(val))))
		return 0;
	return val;
}

static nokprobe_inline int
rust_trace_probe_fetch(struct fetch_insn *code,
		       struct rust_trace_probe_rec *from, void *dest,
		       void *base)
{
	unsigned long val;
	int ret;

	switch (code->op) {
	case FETCH_OP_REG:
		val = regs_get_register(from->regs, code->param);
		break;
	case FETCH_OP_STACK:
		val = rust_trace_probe_stack_entry(from->regs, code->param);
		break;
	case FETCH_OP_STACKP:
		val = user_stack_pointer(from->regs);
		break;
	case FETCH_OP_RETVAL:
		val = regs_return_value(from->regs);
		break;
	case FETCH_OP_FOFFS:
		val = from->file_base + code->immediate;
		break;
	case FETCH_OP_COMM:
		/* The parser lets only a store follow these two. */
		return rust_trace_probe_own_string(current->comm, dest, base);
	case FETCH_OP_IMMSTR:
		return rust_trace_probe_own_string(code->data, dest, base);
	default:
		ret = process_common_fetch_insn(code, &val);
		if (ret < 0)
			return ret;
	}

	return process_fetch_insn_bottom(code + 1, val, dest, base);
}

static int process_fetch_insn(struct fetch_insn *code, void *rec, void *edata,
			      void *dest, void *base)
{
	return rust_trace_probe_fetch(code, rec, dest, base);
}

/*
 * If @dest is %NULL, returns how much room @arg's strings need. Otherwise
 * stores @arg at @dest, and its strings at the location in @dest, relative to
 * @base. Returns how much of that location was used.
 */
__rust_helper int
rust_helper_trace_probe_fetch_arg(struct probe_arg *arg, struct pt_regs *regs,
				  unsigned long file_base, void *dest,
				  void *base)
{
	struct rust_trace_probe_rec rec = {
		.regs		= regs,
		.file_base	= file_base,
	};

	return rust_trace_probe_fetch(arg->code, &rec, dest, base);
}

__rust_helper int
rust_helper_dyn_event_init(struct dyn_event *ev,
			   struct dyn_event_operations *ops)
{
	return dyn_event_init(ev, ops);
}

__rust_helper int rust_helper_dyn_event_add(struct dyn_event *ev,
					    struct trace_event_call *call)
{
	return dyn_event_add(ev, call);
}

__rust_helper void rust_helper_dyn_event_remove(struct dyn_event *ev)
{
	dyn_event_remove(ev);
}

__rust_helper const char *rust_helper_trace_probe_name(struct trace_probe *tp)
{
	return trace_probe_name(tp);
}

__rust_helper const char *
rust_helper_trace_probe_group_name(struct trace_probe *tp)
{
	return trace_probe_group_name(tp);
}

__rust_helper struct trace_probe *
rust_helper_trace_probe_primary_from_call(struct trace_event_call *call)
{
	return trace_probe_primary_from_call(call);
}

__rust_helper bool rust_helper_trace_probe_is_enabled(struct trace_probe *tp)
{
	return trace_probe_is_enabled(tp);
}

__rust_helper bool rust_helper_trace_probe_test_flag(struct trace_probe *tp,
						     unsigned int flag)
{
	return trace_probe_test_flag(tp, flag);
}

__rust_helper void rust_helper_trace_probe_set_flag(struct trace_probe *tp,
						    unsigned int flag)
{
	trace_probe_set_flag(tp, flag);
}

__rust_helper void rust_helper_trace_probe_clear_flag(struct trace_probe *tp,
						      unsigned int flag)
{
	trace_probe_clear_flag(tp, flag);
}

__rust_helper int
rust_helper_trace_probe_unregister_event_call(struct trace_probe *tp)
{
	return trace_probe_unregister_event_call(tp);
}

__rust_helper void rust_helper_trace_probe_dump_args(struct seq_file *m,
						     struct trace_probe *tp)
{
	trace_probe_dump_args(m, tp);
}

__rust_helper unsigned long rust_helper_regs_get_register(struct pt_regs *regs,
							  unsigned int offset)
{
	return regs_get_register(regs, offset);
}

__rust_helper unsigned long rust_helper_regs_return_value(struct pt_regs *regs)
{
	return regs_return_value(regs);
}

__rust_helper unsigned long
rust_helper_user_stack_pointer(struct pt_regs *regs)
{
	return user_stack_pointer(regs);
}

/*
 * Returns the trace context of user mode, where nothing is disabled. Here either
 * interrupts or preemption are.
 */
static __always_inline unsigned int rust_trace_probe_ctx(void)
{
	const unsigned long resched = _TIF_NEED_RESCHED | _TIF_NEED_RESCHED_LAZY;

	if (likely(!(READ_ONCE(current_thread_info()->flags) & resched)))
		return 0;

	return tracing_gen_ctx_irq_test(0) -
	       (irqs_disabled() ? 0 : PREEMPT_DISABLE_OFFSET);
}

/*
 * Returns room for an entry of @file, with the common fields set, or %NULL. The
 * caller must have disabled preemption, and must call
 * trace_event_buffer_commit().
 *
 * As trace_event_buffer_reserve(), with the trace context of user mode.
 */
__rust_helper void *
rust_helper_trace_probe_reserve(struct trace_event_buffer *to,
				struct trace_event_file *file,
				unsigned long len)
{
	if (trace_trigger_soft_disabled(file))
		return NULL;
	if (file->flags & EVENT_FILE_FL_PID_FILTER &&
	    trace_event_ignore_this_pid(file))
		return NULL;

	to->trace_file = file;
	to->trace_ctx = rust_trace_probe_ctx();
	to->regs = NULL;
	to->event = trace_event_buffer_lock_reserve(&to->buffer, file,
						    file->event_call->event.type,
						    len, to->trace_ctx);
	if (!to->event)
		return NULL;

	to->entry = ring_buffer_event_data(to->event);
	return to->entry;
}

/* Returns the list of the files of an event. */
__rust_helper struct list_head *
rust_helper_trace_probe_files(struct trace_probe_event *event)
{
	return &event->files;
}

__rust_helper struct list_head *rust_helper_list_next_rcu(struct list_head *list)
{
	return rcu_dereference_check(list_next_rcu(list),
				     rcu_read_lock_any_held());
}

__rust_helper struct trace_event_file *
rust_helper_trace_probe_file(struct list_head *link)
{
	return list_entry(link, struct event_file_link, list)->file;
}

/* Returns the BPF programs of @call, or %NULL. For a Tasks Trace RCU reader. */
__rust_helper struct bpf_prog_array *
rust_helper_trace_probe_programs(struct trace_event_call *call)
{
#ifdef CONFIG_BPF_EVENTS
	if (bpf_prog_array_valid(call))
		return rcu_dereference_check(call->prog_array,
					     rcu_read_lock_trace_held());
#endif
	return NULL;
}

/*
 * Returns whether all @programs let a hit pass. May sleep. @probed is the
 * probed address, which bpf_get_func_ip() reads where C's uprobes store it.
 */
__rust_helper bool
rust_helper_trace_probe_run_programs(const struct bpf_prog_array *programs,
				     struct pt_regs *regs, unsigned long probed)
{
#ifdef CONFIG_UPROBES
	struct uprobe_dispatch_data hit = { .bp_addr = probed };
	struct uprobe_task utask __uninitialized;
	bool ret;

	/* Callchains read return_instances, bpf_get_func_ip() reads vaddr. */
	utask.return_instances = NULL;
	utask.vaddr = (unsigned long)&hit;
	/* An NMI on this CPU may take a callchain of current at any time. */
	barrier();
	WRITE_ONCE(current->utask, &utask);
	ret = bpf_prog_run_array_uprobe(programs, regs, bpf_prog_run);
	WRITE_ONCE(current->utask, NULL);
	barrier();
	return ret;
#else
	return true;
#endif
}

/* An event lists its open perf events in the same field as C's uprobes. */
__rust_helper void
rust_helper_trace_probe_perf_init(struct trace_probe_event *event)
{
	INIT_LIST_HEAD(&event->filter->perf_events);
}

/* This and the next three functions need event_mutex. */
__rust_helper void
rust_helper_trace_probe_perf_open(struct trace_probe_event *event,
				  struct perf_event *perf)
{
	if (perf->hw.target)
		list_add(&perf->hw.tp_list, &event->filter->perf_events);
	else
		event->filter->nr_systemwide++;
}

__rust_helper void
rust_helper_trace_probe_perf_close(struct trace_probe_event *event,
				   struct perf_event *perf)
{
	if (perf->hw.target)
		list_del(&perf->hw.tp_list);
	else
		event->filter->nr_systemwide--;
}

/* Returns whether a perf event is open that counts in all processes. */
__rust_helper bool
rust_helper_trace_probe_perf_everywhere(struct trace_probe_event *event)
{
	return event->filter->nr_systemwide;
}

/* Returns the list of the perf events that count in one thread. */
__rust_helper struct list_head *
rust_helper_trace_probe_perf_targets(struct trace_probe_event *event)
{
	return &event->filter->perf_events;
}

/* Returns the thread of a perf event on that list. It may have exited. */
__rust_helper struct task_struct *
rust_helper_trace_probe_perf_target(struct list_head *link)
{
	return list_entry(link, struct perf_event, hw.tp_list)->hw.target;
}

/* Returns whether a perf event was inherited from the creator of its thread. */
__rust_helper bool rust_helper_trace_probe_perf_inherited(struct perf_event *perf)
{
	return perf->parent;
}

/*
 * Returns the perf events of this CPU, or %NULL. Preemption must be disabled.
 */
__rust_helper struct hlist_head *
rust_helper_trace_probe_perf_list(struct trace_event_call *call)
{
	struct hlist_head *head = this_cpu_ptr(call->perf_events);

	return hlist_empty(head) ? NULL : head;
}

__rust_helper void
rust_helper_trace_probe_perf_submit(struct trace_event_call *call, void *entry,
				    int size, int rctx, struct pt_regs *regs,
				    struct hlist_head *head)
{
	perf_trace_buf_submit(entry, size, rctx, call->event.type, 1, regs,
			      head, NULL);
}

/*
 * As trace_probe_unlink(). A reader of the trace may print an entry with the
 * probe, with trace_event_sem held.
 */
__rust_helper void rust_helper_trace_probe_unlink_printed(struct trace_probe *tp)
{
	down_write(&trace_event_sem);
	trace_probe_unlink(tp);
	up_write(&trace_event_sem);
}
