/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _KERNEL_TRACE_UPROBE_EVENTS_H
#define _KERNEL_TRACE_UPROBE_EVENTS_H
/*
 * Events on probes by process and address, as trace_uprobe.c sees them. The
 * files uprobe_events and uprobe_profile are there, for events of both kinds.
 */

#include <linux/errno.h>

struct dyn_event;
struct seq_file;

#ifdef CONFIG_UPROBE_PROCESS_EVENTS
/* Creates an event from a line that defines no event on a file. */
int uprobe_process_event_create(const char *raw_command);
/*
 * Removes the events that a line names. @so_far is what the removal of events
 * on files by the line has returned. If there is no event here, returns the same.
 */
int uprobe_process_event_release(const char *raw_command, int so_far);
int uprobe_process_events_release_all(void);
/* Do nothing for an event of another kind. */
int uprobe_process_event_show(struct seq_file *m, struct dyn_event *ev);
int uprobe_process_event_show_profile(struct seq_file *m, struct dyn_event *ev);
#else
static inline int uprobe_process_event_create(const char *raw_command)
{
	return -ECANCELED;
}

static inline int uprobe_process_event_release(const char *raw_command, int so_far)
{
	return so_far;
}

static inline int uprobe_process_events_release_all(void)
{
	return 0;
}

static inline int uprobe_process_event_show(struct seq_file *m, struct dyn_event *ev)
{
	return 0;
}

static inline int uprobe_process_event_show_profile(struct seq_file *m,
						    struct dyn_event *ev)
{
	return 0;
}
#endif

#endif
