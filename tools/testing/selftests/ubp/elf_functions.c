// SPDX-License-Identifier: GPL-2.0
/* Search for the functions of an ELF file. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "elf_functions.h"

/* Encodings of pointers in .eh_frame. */
#define PTR_ABSOLUTE	0x00
#define PTR_PC_RELATIVE	0x10
#define PTR_SDATA4	0x0b
#define PTR_UDATA4	0x03
#define PTR_SDATA8	0x0c
#define PTR_UDATA8	0x04
#define PTR_SIZE_MASK	0x0f
#define PTR_BASE_MASK	0x70

static const Elf64_Ehdr *header(const struct elf_functions *functions)
{
	return (const Elf64_Ehdr *)functions->data;
}

/*
 * Returns the data at an offset of the file, if all of it is within the file.
 */
static const void *at_offset(const struct elf_functions *functions, uint64_t offset,
			     uint64_t size)
{
	if (offset > functions->size || size > functions->size - offset)
		return NULL;
	return functions->data + offset;
}

static const Elf64_Shdr *section(const struct elf_functions *functions, unsigned int index)
{
	const Elf64_Ehdr *elf = header(functions);

	if (index >= elf->e_shnum)
		return NULL;
	return at_offset(functions, elf->e_shoff + (uint64_t)index * sizeof(Elf64_Shdr),
			 sizeof(Elf64_Shdr));
}

static const void *contents(const struct elf_functions *functions, const Elf64_Shdr *found)
{
	return found->sh_type == SHT_NOBITS ? NULL :
		at_offset(functions, found->sh_offset, found->sh_size);
}

static const Elf64_Shdr *section_of_type(const struct elf_functions *functions, uint32_t type)
{
	const Elf64_Shdr *found;
	unsigned int i;

	for (i = 0; (found = section(functions, i)); i++)
		if (found->sh_type == type && contents(functions, found))
			return found;
	return NULL;
}

static const Elf64_Shdr *section_of_name(const struct elf_functions *functions, const char *name)
{
	const Elf64_Shdr *names = section(functions, header(functions)->e_shstrndx), *found;
	const char *strings = names ? contents(functions, names) : NULL;
	size_t length = strlen(name) + 1;
	unsigned int i;

	if (!strings)
		return NULL;
	for (i = 0; (found = section(functions, i)); i++)
		if (found->sh_name < names->sh_size && length <= names->sh_size - found->sh_name &&
		    !memcmp(strings + found->sh_name, name, length))
			return contents(functions, found) ? found : NULL;
	return NULL;
}

/* Returns the bytes of [start, end), if they are in one section of code. */
static const uint8_t *code_at(const struct elf_functions *functions, uint64_t start, uint64_t end)
{
	const Elf64_Shdr *found;
	const uint8_t *code;
	unsigned int i;

	for (i = 0; (found = section(functions, i)); i++) {
		if (!(found->sh_flags & SHF_EXECINSTR) || start < found->sh_addr ||
		    end > found->sh_addr + found->sh_size)
			continue;
		code = contents(functions, found);
		return code ? code + (start - found->sh_addr) : NULL;
	}
	return NULL;
}

static bool add(struct elf_functions *functions, uint64_t start, uint64_t end)
{
	const uint8_t *code = end > start ? code_at(functions, start, end) : NULL;
	struct function *list;

	if (!code)
		return true;
	if (functions->count == functions->room) {
		functions->room = functions->room ? 2 * functions->room : 1024;
		list = realloc(functions->list, functions->room * sizeof(*list));
		if (!list)
			return false;
		functions->list = list;
	}
	functions->list[functions->count++] = (struct function) { start, end, code };
	return true;
}

static bool add_symbols(struct elf_functions *functions)
{
	const Elf64_Shdr *table = section_of_type(functions, SHT_SYMTAB);
	const Elf64_Sym *symbol, *end;

	if (!table)
		table = section_of_type(functions, SHT_DYNSYM);
	if (!table)
		return true;
	symbol = contents(functions, table);
	for (end = symbol + table->sh_size / sizeof(*symbol); symbol < end; symbol++) {
		int type = ELF64_ST_TYPE(symbol->st_info);

		if (symbol->st_shndx == SHN_UNDEF ||
		    (type != STT_FUNC && type != STT_GNU_IFUNC))
			continue;
		if (!add(functions, symbol->st_value, symbol->st_value + symbol->st_size))
			return false;
	}
	return true;
}

/* A cursor in .eh_frame. Reads beyond the end return 0. */
struct reader {
	const uint8_t *at;
	const uint8_t *end;
};

static uint64_t take(struct reader *reader, size_t size)
{
	uint64_t value = 0;

	if (size > (size_t)(reader->end - reader->at)) {
		reader->at = reader->end;
		return 0;
	}
	memcpy(&value, reader->at, size);
	reader->at += size;
	return value;
}

static void skip_leb128(struct reader *reader)
{
	while (take(reader, 1) & 0x80)
		;
}

/*
 * Returns the size of a pointer; 0 if compilers do not use the encoding in
 * .eh_frame.
 */
static size_t pointer_size(uint8_t encoding)
{
	switch (encoding & PTR_SIZE_MASK) {
	case PTR_SDATA4:
	case PTR_UDATA4:
		return 4;
	case PTR_ABSOLUTE:
	case PTR_SDATA8:
	case PTR_UDATA8:
		return 8;
	}
	return 0;
}

/* Returns the encoding of the addresses in the entries of a CIE. */
static uint8_t address_encoding(struct reader cie)
{
	const char *augmentation;
	uint8_t version;

	version = take(&cie, 1);
	augmentation = (const char *)cie.at;
	while (take(&cie, 1))
		;
	if (*augmentation != 'z')
		return PTR_ABSOLUTE;
	skip_leb128(&cie);
	skip_leb128(&cie);
	if (version == 1)
		take(&cie, 1);
	else
		skip_leb128(&cie);
	skip_leb128(&cie);
	while (*++augmentation) {
		switch (*augmentation) {
		case 'R':
			return take(&cie, 1);
		case 'P':
			take(&cie, pointer_size(take(&cie, 1)));
			break;
		case 'L':
			take(&cie, 1);
			break;
		}
	}
	return PTR_ABSOLUTE;
}

/*
 * Adds the function of an entry. @base is the difference between address and
 * file offset.
 */
static bool add_frame(struct elf_functions *functions, struct reader entry, uint8_t encoding,
		      uint64_t base)
{
	size_t size = pointer_size(encoding);
	uint64_t place = base + (entry.at - functions->data);
	uint64_t start = take(&entry, size), length = take(&entry, size);

	if ((encoding & PTR_SIZE_MASK) == PTR_SDATA4)
		start = (int64_t)(int32_t)start;
	switch (encoding & PTR_BASE_MASK) {
	case PTR_PC_RELATIVE:
		start += place;
		break;
	case 0:
		break;
	default:
		return true;
	}
	return add(functions, start, start + length);
}

static bool add_frames(struct elf_functions *functions)
{
	const Elf64_Shdr *table = section_of_name(functions, ".eh_frame");
	struct reader frames, entry, cie;
	const uint8_t *start, *place;
	uint32_t length, distance;

	if (!table)
		return true;
	start = contents(functions, table);
	frames = (struct reader) { start, start + table->sh_size };
	/*
	 * An entry of length 0 ends the table. Entries with 64-bit lengths are
	 * not in use.
	 */
	while ((length = take(&frames, 4)) && length <= frames.end - frames.at) {
		entry = (struct reader) { frames.at, frames.at + length };
		frames.at += length;
		place = entry.at;
		distance = take(&entry, 4);
		if (!distance || distance > place - start)
			continue;
		cie = (struct reader) { place - distance, frames.end };
		take(&cie, 8);
		if (!add_frame(functions, entry, address_encoding(cie),
			       table->sh_addr - table->sh_offset))
			return false;
	}
	return true;
}

static int compare(const void *left, const void *right)
{
	const struct function *a = left, *b = right;

	if (a->start != b->start)
		return a->start < b->start ? -1 : 1;
	/* The longer function first. */
	return a->end > b->end ? -1 : a->end < b->end;
}

/* Removes functions that begin within a preceding one. */
static void sort(struct elf_functions *functions)
{
	uint64_t covered = 0;
	size_t i, kept = 0;

	qsort(functions->list, functions->count, sizeof(*functions->list), compare);
	for (i = 0; i < functions->count; i++) {
		struct function *function = &functions->list[i];

		if (function->start < covered)
			continue;
		covered = function->end;
		functions->list[kept++] = *function;
	}
	functions->count = kept;
}

static bool is_supported(const struct elf_functions *functions)
{
	const Elf64_Ehdr *elf = header(functions);

	return functions->size >= sizeof(*elf) && !memcmp(elf->e_ident, ELFMAG, SELFMAG) &&
	       elf->e_ident[EI_CLASS] == ELFCLASS64 && elf->e_machine == EM_X86_64 &&
	       elf->e_shentsize == sizeof(Elf64_Shdr);
}

int elf_functions_open(struct elf_functions *functions, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), ret = 0;
	struct stat stat;
	void *data;

	memset(functions, 0, sizeof(*functions));
	if (fd < 0)
		return -errno;
	if (fstat(fd, &stat) || !stat.st_size) {
		close(fd);
		return -EINVAL;
	}
	data = mmap(NULL, stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (data == MAP_FAILED)
		return -errno;
	functions->data = data;
	functions->size = stat.st_size;

	if (!is_supported(functions))
		ret = -ENOEXEC;
	else if (!add_symbols(functions) || !add_frames(functions))
		ret = -ENOMEM;
	if (ret)
		elf_functions_close(functions);
	else if (functions->count)
		sort(functions);
	return ret;
}

void elf_functions_close(struct elf_functions *functions)
{
	munmap((void *)functions->data, functions->size);
	free(functions->list);
}
