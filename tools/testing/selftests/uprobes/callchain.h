/* SPDX-License-Identifier: GPL-2.0 */
/* Functions with frame pointers, in callchain.S. */
#ifndef _CALLCHAIN_H
#define _CALLCHAIN_H

/* Calls @function through chain_outer() and chain_inner(). */
void call_chain(void (*function)(void));

/* Functions that begin with `push %rbp` and with `endbr64`. */
void chain_push(void);
void chain_endbr(void);

/* An instruction within the frame of chain_push(). */
extern const char chain_push_inside[];
/* Return addresses of the callees of these functions. */
extern const char chain_inner_site[], chain_outer_site[], call_chain_site[];

#endif /* _CALLCHAIN_H */
