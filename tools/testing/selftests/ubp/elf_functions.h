/* SPDX-License-Identifier: GPL-2.0 */
/* Search for the functions of an ELF file. */
#ifndef _ELF_FUNCTIONS_H
#define _ELF_FUNCTIONS_H

#include <stddef.h>
#include <stdint.h>

/*
 * A function. No two have a byte in common: a function that begins within
 * another is left out.
 */
struct function {
	uint64_t start;
	uint64_t end;
	const uint8_t *code;
};

struct elf_functions {
	/* The mapped file. */
	const uint8_t *data;
	size_t size;
	/* The functions, sorted by address. */
	struct function *list;
	size_t count;
	size_t room;
};

/*
 * Maps a file for x86-64 and finds its functions: from its symbols, or from
 * those of the dynamic linker if there are no others, and from the unwind
 * tables. Returns 0, or a negative errno.
 */
int elf_functions_open(struct elf_functions *functions, const char *path);
void elf_functions_close(struct elf_functions *functions);

#endif /* _ELF_FUNCTIONS_H */
