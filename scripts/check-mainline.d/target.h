/* SPDX-License-Identifier: GPL-2.0 */
#define LIBRARY_FUNCTIONS 64

/* Calls each function of the library, l_0_0() to l_7_7(), once. */
void call_library(void);
