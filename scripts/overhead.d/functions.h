/* SPDX-License-Identifier: GPL-2.0 */
/* See functions.S. */
#ifndef FUNCTIONS_H
#define FUNCTIONS_H

void first_nop(void);
void first_mov(void);
void first_lea(void);
void first_movaps(void);

#endif
