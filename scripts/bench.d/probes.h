/* SPDX-License-Identifier: GPL-2.0 */
/* Setting probes, with the series' uprobes and with mainline's. */
#ifndef PROBES_H
#define PROBES_H

#include <stdbool.h>
#include <stddef.h>

/* Chooses by the name of the module, which is opened: uprobes_overhead.ko or another. */
void probes_open(const char *module);
bool probes_ours(void);
/* From now on, the module has another name, so that other probes stay: @digit ends it. */
void probes_open_copy(unsigned int digit);

/*
 * Sets @count probes, at @at and each @stride bytes on; @what are parameters of the
 * module. Returns whether that was possible.
 */
bool probes_set(const void *at, unsigned int count, unsigned long stride, const char *what);
void probes_remove(void);

/* The event bench/it, with these arguments. Returns whether it can be. */
bool event_set(const void *at, const char *arguments);
bool event_enable(bool on);
void event_remove(void);
/* A perf counter of the event, or -1. */
int event_perf(void);
/* The same, with a BPF program that does nothing. */
int event_bpf(void);

#endif
