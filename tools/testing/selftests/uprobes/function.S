/* SPDX-License-Identifier: GPL-2.0 */
/* The beginning of an assembly function that tests probe. */

.macro function name
	.balign	64
	.globl	\name
	.type	\name, @function
\name:
.endm
