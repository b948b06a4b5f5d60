// SPDX-License-Identifier: GPL-2.0
/* Tracepoints, with their entry points for Rust. */

#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include <trace/events/utrace.h>
