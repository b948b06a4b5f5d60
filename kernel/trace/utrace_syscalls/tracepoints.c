// SPDX-License-Identifier: GPL-2.0
/*
 * The tracepoints, and what calls them from Rust.
 */

#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include <trace/events/utrace.h>
