/* SPDX-License-Identifier: GPL-2.0 */
/* The beginning of a function that tests probe, for assembly. */

.macro function name
	.balign	64
	.globl	\name
	.type	\name, @function
\name:
.endm
