/* SPDX-License-Identifier: GPL-2.0 */
/* The functions of an ELF file. */
#ifndef _ELF_FUNCTIONS_H
#define _ELF_FUNCTIONS_H

#include <stddef.h>
#include <stdint.h>

/* A function, or what is left of it: no two have a byte in common. */
struct function {
	uint64_t start;
	uint64_t end;
	const uint8_t *code;
};

struct elf_functions {
	/* The file. */
	const uint8_t *data;
	size_t size;
	/* In the order of their addresses. */
	struct function *list;
	size_t count;
	size_t room;
};

/*
 * Maps a file for x86-64 and finds its functions: by its symbols, those of the
 * dynamic linker if there are no others, and by the tables for unwinding.
 * Returns 0, or a negative errno.
 */
int elf_functions_open(struct elf_functions *functions, const char *path);
void elf_functions_close(struct elf_functions *functions);

#endif /* _ELF_FUNCTIONS_H */
