// SPDX-License-Identifier: GPL-2.0
/* Text that is unmapped, moved or changed under a probe, and text of every kind. */
#include <sys/mman.h>
#include <sys/stat.h>

#include "module_fixture.h"

#define PAGE	4096UL

/* Functions like the shared ones, for any address: SI + DI, and SI - DI. */
static const unsigned char add_code[] = { 0x48, 0x8d, 0x04, 0x37, 0xc3 };
static const unsigned char sub_code[] = { 0x48, 0x89, 0xf0, 0x48, 0x29, 0xf8, 0xc3 };

#define RWX	(PROT_READ | PROT_WRITE | PROT_EXEC)

static unsigned char *map_anonymous(void *where, const void *code, size_t len)
{
	unsigned char *text = mmap(where, PAGE, RWX,
				   MAP_PRIVATE | MAP_ANONYMOUS | (where ? MAP_FIXED : 0), -1, 0);

	if (text != MAP_FAILED)
		memcpy(text, code, len);
	return text;
}

#define ANONYMOUS(where, code) ({				\
	unsigned char *__text = map_anonymous(where, code, sizeof(code)); \
	ASSERT_NE(MAP_FAILED, __text);				\
	__text;							\
})

static unsigned long call(const void *text, unsigned long base, unsigned long add)
{
	return ((probed_fn)text)(base, add);
}

/* Creates a file that holds add_code in its only page. The caller may unlink @path. */
static int make_file(const char *path)
{
	unsigned char page[PAGE] = { 0 };
	int fd;

	memcpy(page, add_code, sizeof(add_code));
	fd = path ? open(path, O_RDWR | O_CREAT | O_TRUNC, 0700) :
		    memfd_create("uprobes_selftest", 0);
	if (fd >= 0 && write(fd, page, PAGE) != PAGE) {
		close(fd);
		return -1;
	}
	return fd;
}

static unsigned char *map_file(int fd, void *where, int flags)
{
	return mmap(where, PAGE, PROT_READ | PROT_EXEC, flags | (where ? MAP_FIXED : 0), fd, 0);
}

/* Probes @text: the hits are counted, and unregistering restores the text. */
static void use(struct __test_metadata *_metadata, int dev, unsigned char *text)
{
	unsigned char before[PAGE];
	unsigned int i;
	int id;

	memcpy(before, text, PAGE);
	id = dev_register(dev, getpid(), text, UPROBES_TEST_TASK);
	ASSERT_LT(0, id);
	for (i = 0; i < 100; i++)
		ASSERT_EQ(i + 1, call(text, i, 1));
	EXPECT_EQ(100, dev_hits(dev, id));
	EXPECT_EQ(0, dev_unregister(dev, id));
	EXPECT_EQ(0, memcmp(before, text, PAGE));
	EXPECT_EQ(3, call(text, 1, 2));
}

TEST_F_TIMEOUT(module, anonymous_text, TIMEOUT)
{
	unsigned char *text = ANONYMOUS(NULL, add_code);

	use(_metadata, self->dev, text);
	ASSERT_EQ(0, mprotect(text, PAGE, PROT_READ | PROT_EXEC));
	use(_metadata, self->dev, text);
	ASSERT_EQ(0, mprotect(text, PAGE, PROT_EXEC));
	use(_metadata, self->dev, text);
}

TEST_F_TIMEOUT(module, memfd_text, TIMEOUT)
{
	int fd = make_file(NULL);
	unsigned char *text;

	ASSERT_LE(0, fd);
	text = map_file(fd, NULL, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, text);
	use(_metadata, self->dev, text);
	EXPECT_TRUE(page_is_of_file(getpid(), text));
	close(fd);
	use(_metadata, self->dev, text);
}

TEST_F_TIMEOUT(module, deleted_file_text, TIMEOUT)
{
	char path[] = "/tmp/uprobes_selftest_XXXXXX";
	unsigned char *text;
	int fd;

	fd = mkstemp(path);
	if (fd < 0)
		SKIP(return, "/tmp cannot be written");
	close(fd);
	fd = make_file(path);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, fchmod(fd, 0700));
	text = map_file(fd, NULL, MAP_PRIVATE);
	close(fd);
	if (text == MAP_FAILED) {
		unlink(path);
		SKIP(return, "/tmp is mounted noexec");
	}
	use(_metadata, self->dev, text);
	ASSERT_EQ(0, unlink(path));
	use(_metadata, self->dev, text);
	EXPECT_TRUE(page_is_of_file(getpid(), text));
}

/* A file that others see through the same page must never change. */
TEST_F_TIMEOUT(module, shared_mappings, TIMEOUT)
{
	int fd = make_file(NULL), id;
	unsigned char *text, byte = 0;

	ASSERT_LE(0, fd);
	text = mmap(NULL, PAGE, RWX, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, text);
	EXPECT_EQ(-EINVAL, dev_register(self->dev, getpid(), text, UPROBES_TEST_TASK));
	ASSERT_EQ(0, munmap(text, PAGE));

	text = map_file(fd, NULL, MAP_SHARED);
	ASSERT_NE(MAP_FAILED, text);
	id = dev_register(self->dev, getpid(), text, UPROBES_TEST_TASK);
	EXPECT_EQ(1, pread(fd, &byte, 1, 0));
	EXPECT_EQ(add_code[0], byte);
	EXPECT_EQ(3, call(text, 1, 2));
	if (id > 0)
		UNPROBE(id);
	EXPECT_EQ(add_code[0], text[0]);
	close(fd);
}

TEST_F_TIMEOUT(module, unmapped, TIMEOUT)
{
	unsigned char *text = ANONYMOUS(NULL, add_code);
	int id = PROBE(text);

	EXPECT_EQ(3, call(text, 1, 2));
	ASSERT_EQ(0, munmap(text, PAGE));
	EXPECT_EQ(1, HITS(id));
	UNPROBE(id);
	EXPECT_EQ(-1, msync(text, PAGE, MS_ASYNC));
	EXPECT_EQ(ENOMEM, errno);
}

/* Other code is mapped where the probe was. */
TEST_F_TIMEOUT(module, replaced_by_other_code, TIMEOUT)
{
	unsigned char *text = ANONYMOUS(NULL, add_code);
	int id = PROBE(text), again;

	EXPECT_EQ(30, call(text, 10, 20));
	ASSERT_EQ(0, munmap(text, PAGE));
	ASSERT_EQ(text, ANONYMOUS(text, sub_code));
	EXPECT_EQ(10, call(text, 10, 20));
	EXPECT_EQ(1, HITS(id));
	again = PROBE(text);
	EXPECT_EQ(10, call(text, 10, 20));
	EXPECT_EQ(1, HITS(again));
	UNPROBE(id);
	EXPECT_EQ(10, call(text, 10, 20));
	EXPECT_EQ(2, HITS(again));
	UNPROBE(again);
	EXPECT_EQ(0, memcmp(text, sub_code, sizeof(sub_code)));

	/* The mapping is replaced at once, without an munmap(). */
	id = PROBE(text);
	ASSERT_EQ(text, ANONYMOUS(text, add_code));
	EXPECT_EQ(30, call(text, 10, 20));
	UNPROBE(id);
	EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
}

/* The file is unmapped and mapped again, as dlclose() and dlopen() do. */
TEST_F_TIMEOUT(module, file_mapped_again, TIMEOUT)
{
	int fd = make_file(NULL), id;
	unsigned char *text;

	ASSERT_LE(0, fd);
	text = map_file(fd, NULL, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, text);
	id = PROBE(text);
	EXPECT_EQ(3, call(text, 1, 2));
	ASSERT_EQ(0, munmap(text, PAGE));
	ASSERT_EQ(text, map_file(fd, text, MAP_PRIVATE));
	EXPECT_EQ(add_code[0], byte_at(text));
	EXPECT_EQ(3, call(text, 1, 2));
	EXPECT_EQ(1, HITS(id));
	UNPROBE(id);
	use(_metadata, self->dev, text);
	close(fd);
}

/* MADV_DONTNEED discards the private copy, and the breakpoint with it. */
TEST_F_TIMEOUT(module, dontneed_of_file_text, TIMEOUT)
{
	int id = PROBE(probed_lea);
	char *page = (char *)probed_nop;

	EXPECT_EQ(3, probed_lea(1, 2));
	ASSERT_EQ(0, madvise(page, PAGE, MADV_DONTNEED));
	EXPECT_EQ(0x48, byte_at(probed_lea));
	EXPECT_EQ(3, probed_lea(1, 2));
	EXPECT_EQ(1, HITS(id));
	UNPROBE(id);
	EXPECT_TRUE(text_is_of_file(getpid(), page, PAGE));
	id = PROBE(probed_lea);
	EXPECT_EQ(3, probed_lea(1, 2));
	EXPECT_EQ(1, HITS(id));
	UNPROBE(id);
	EXPECT_TRUE(page_is_of_file(getpid(), page));
}

/* A second probe at the address finds its breakpoint gone, and inserts it again. */
TEST_F_TIMEOUT(module, dontneed_then_another_probe, TIMEOUT)
{
	int id = PROBE(probed_nop), also;

	ASSERT_EQ(0, madvise((char *)probed_nop, PAGE, MADV_DONTNEED));
	also = PROBE(probed_nop);
	EXPECT_EQ(3, probed_nop(1, 2));
	EXPECT_EQ(1, HITS(also));
	UNPROBE(id);
	EXPECT_EQ(3, probed_nop(1, 2));
	EXPECT_EQ(2, HITS(also));
	UNPROBE(also);
	EXPECT_TRUE(text_is_of_file(getpid(), probed_nop, PAGE));
}

TEST_F_TIMEOUT(module, dontneed_of_anonymous_text, TIMEOUT)
{
	unsigned char *text = ANONYMOUS(NULL, add_code);
	int id = PROBE(text);

	EXPECT_EQ(3, call(text, 1, 2));
	ASSERT_EQ(0, madvise(text, PAGE, MADV_DONTNEED));
	UNPROBE(id);
	/* The page is gone, so unregistering must not restore its byte. */
	EXPECT_EQ(0, text[0]);
}

/* A program overwrites its own text, and the breakpoint in it. */
TEST_F_TIMEOUT(module, overwritten, TIMEOUT)
{
	unsigned char *text = ANONYMOUS(NULL, add_code);
	int id = PROBE(text);

	EXPECT_EQ(30, call(text, 10, 20));
	memcpy(text, sub_code, sizeof(sub_code));
	EXPECT_EQ(10, call(text, 10, 20));
	EXPECT_EQ(1, HITS(id));
	UNPROBE(id);
	EXPECT_EQ(0, memcmp(text, sub_code, sizeof(sub_code)));
	EXPECT_EQ(10, call(text, 10, 20));
}

/* The program's writes elsewhere in the page persist. */
TEST_F_TIMEOUT(module, written_beside, TIMEOUT)
{
	unsigned char *text = ANONYMOUS(NULL, add_code);
	int id = PROBE(text);

	memcpy(text + 64, sub_code, sizeof(sub_code));
	EXPECT_EQ(10, call(text + 64, 10, 20));
	EXPECT_EQ(30, call(text, 10, 20));
	UNPROBE(id);
	EXPECT_EQ(10, call(text + 64, 10, 20));
	EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
	EXPECT_EQ(0, memcmp(text + 64, sub_code, sizeof(sub_code)));
}

TEST_F_TIMEOUT(module, protection_changes, TIMEOUT)
{
	static const int protections[] = {
		PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC, RWX,
	};
	unsigned int i;

	for (i = 0; i < 5; i++) {
		unsigned char *text = ANONYMOUS(NULL, add_code);
		int id = PROBE(text);

		ASSERT_EQ(0, mprotect(text, PAGE, protections[i]));
		if (protections[i] & PROT_EXEC) {
			EXPECT_EQ(3, call(text, 1, 2));
			EXPECT_EQ(1, HITS(id));
		}
		UNPROBE(id);
		ASSERT_EQ(0, mprotect(text, PAGE, RWX));
		EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
		EXPECT_EQ(3, call(text, 1, 2));
		ASSERT_EQ(0, munmap(text, PAGE));
	}
}

/* mremap() removes breakpoints with their mapping: the moved text runs as before. */
TEST_F_TIMEOUT(module, moved, TIMEOUT)
{
	unsigned char *text = ANONYMOUS(NULL, add_code), *place;
	int id = PROBE(text);

	place = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, place);
	ASSERT_EQ(place, mremap(text, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place));
	EXPECT_EQ(0, memcmp(place, add_code, sizeof(add_code)));
	if (place[0] != 0xcc)
		EXPECT_EQ(3, call(place, 1, 2));
	EXPECT_EQ(0, HITS(id));
	UNPROBE(id);
	EXPECT_EQ(0, memcmp(place, add_code, sizeof(add_code)));
	use(_metadata, self->dev, place);
}

/* A mapping is cut in two and shrinks, with a probe in each part. */
TEST_F_TIMEOUT(module, unmapped_in_part, TIMEOUT)
{
	unsigned char *text = mmap(NULL, 3 * PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int id[3];
	unsigned int i;

	ASSERT_NE(MAP_FAILED, text);
	for (i = 0; i < 3; i++) {
		memcpy(text + i * PAGE, add_code, sizeof(add_code));
		id[i] = PROBE(text + i * PAGE);
	}
	ASSERT_EQ(0, munmap(text + PAGE, PAGE));
	EXPECT_EQ(3, call(text, 1, 2));
	EXPECT_EQ(3, call(text + 2 * PAGE, 1, 2));
	EXPECT_EQ(1, HITS(id[0]));
	EXPECT_EQ(0, HITS(id[1]));
	EXPECT_EQ(1, HITS(id[2]));
	for (i = 0; i < 3; i++)
		UNPROBE(id[i]);
	EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
	EXPECT_EQ(0, memcmp(text + 2 * PAGE, add_code, sizeof(add_code)));
}

/* An instruction across two pages, probed at its first byte. */
TEST_F_TIMEOUT(module, across_pages, TIMEOUT)
{
	unsigned char *text = mmap(NULL, 2 * PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned int before;

	ASSERT_NE(MAP_FAILED, text);
	for (before = 1; before < 4; before++) {
		unsigned char *at = text + PAGE - before;
		int id;

		memcpy(at, add_code, sizeof(add_code));
		id = PROBE(at);
		EXPECT_EQ(3, call(at, 1, 2));
		EXPECT_EQ(1, HITS(id));
		UNPROBE(id);
		EXPECT_EQ(0, memcmp(at, add_code, sizeof(add_code)));
	}
}

TEST_HARNESS_MAIN
